"""The slow, obvious version of every metric: libraries and loops, one weighting of the rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics as sk

from evaluation.rows import Float64Array, Rows, ece_bin_of_row


def slow_metrics(rows: Rows, weights: Float64Array) -> dict[str, float]:
    """Every metric of a table of K classes by name, and ``recalls``, the K class recalls."""
    labels, p, decision = rows.labels, rows.p, rows.decision
    k, w = rows.n_classes, {"sample_weight": weights}
    recalls = sk.recall_score(labels, decision, average=None, **w)
    specificities = [
        sk.recall_score(labels != label, decision != label, sample_weight=weights) for label in range(k)
    ]
    of_class: list[dict[str, float]] = [
        {
            "auroc": sk.roc_auc_score(labels == label, p[:, label], **w),
            "average_precision": sk.average_precision_score(labels == label, p[:, label], **w),
            "f1": sk.f1_score(labels == label, decision == label, zero_division=0, **w),
        }
        for label in range(k)
    ]
    values: dict[str, Any] = {"balanced_accuracy": np.mean(recalls), "recalls": recalls}
    if k == 2:
        minority = labels == 1
        return values | {
            **of_class[1],
            "recall": recalls[1],
            "brier": sk.brier_score_loss(labels, p[:, 1], **w),
            "g_mean": np.sqrt(recalls[1] * specificities[1]),
            "ece": slow_ece(p[:, 1], minority, weights),
            "hter": ((1 - recalls[0]) + (1 - recalls[1])) / 2,
        }
    return values | {
        "g_mean_product": np.prod(recalls) ** (1 / k),
        "macro_f1": np.mean([each["f1"] for each in of_class]),
        "macro_auroc": np.mean([each["auroc"] for each in of_class]),
        "macro_average_precision": np.mean([each["average_precision"] for each in of_class]),
        "minority_average_precision": of_class[-1]["average_precision"],
        "g_mean_macro": np.sqrt(np.mean(recalls) * np.mean(specificities)),
        "accuracy": sk.accuracy_score(labels, decision, **w),
        "log_loss": sk.log_loss(labels, p, labels=range(k), **w),
        "brier": np.average([sum((p[i] - np.eye(k)[y]) ** 2) for i, y in enumerate(labels)], weights=weights),
        "ece": slow_ece(p.max(axis=1), p.argmax(axis=1) == labels, weights),
    }


def slow_ece(p: Float64Array, came_true: Any, weights: Float64Array) -> float:
    """Bin by bin; the bins are those of the rows as they are."""
    bins, n_bins = ece_bin_of_row(p)
    error = 0.0
    for each in range(n_bins):
        mine = bins == each
        error += abs(sum(weights[i] * (p[i] - came_true[i]) for i in np.flatnonzero(mine)))
    return error / weights.sum()
