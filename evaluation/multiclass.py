"""Metrics of K-class probabilities that count every class alike, however rare it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    recall_score,
    roc_auc_score,
)

from contracts.errors import DataError
from contracts.rows import LabelArray
from evaluation.metrics import Float64Array, ece_bin_of_row


@dataclass(frozen=True)
class MulticlassMetric:
    """One column of the results table of K > 2 classes.

    Attributes:
        name: the key in JSON.
        higher_is_better: direction, for tables and verdicts.
        needs_decision: False where only the probabilities count.
    """

    name: str
    higher_is_better: bool
    needs_decision: bool


MULTICLASS_METRICS: dict[str, MulticlassMetric] = {
    metric.name: metric
    for metric in (
        MulticlassMetric("acsa", True, True),
        MulticlassMetric("g_mean_product", True, True),
        MulticlassMetric("g_mean_macro", True, True),
        MulticlassMetric("macro_f1", True, True),
        MulticlassMetric("macro_auroc", True, False),
        MulticlassMetric("macro_average_precision", True, False),
        MulticlassMetric("accuracy", True, True),
        MulticlassMetric("log_loss", False, False),
        MulticlassMetric("brier", False, False),
        MulticlassMetric("ece", False, False),
    )
}


def class_recalls(labels: LabelArray, decision: LabelArray, n_classes: int) -> Float64Array:
    """``[K]`` share of each class's rows that were decided right."""
    recalls = recall_score(labels, decision, labels=np.arange(n_classes), average=None, zero_division=0)
    return np.asarray(recalls, dtype=np.float64)


def g_mean_product(labels: LabelArray, decision: LabelArray, n_classes: int) -> float:
    """Return the product form (prod of the K recalls)^(1/K): 0 as soon as one class is never found."""
    return float(np.prod(class_recalls(labels, decision, n_classes)) ** (1.0 / n_classes))


def g_mean_macro(labels: LabelArray, decision: LabelArray, n_classes: int) -> float:
    """Return sqrt(mean recall * mean specificity), each class against the rest.

    What ``imblearn.metrics.geometric_mean_score(..., average="macro")`` computes, and papers that use it
    report. It stays high where a rare class is never found.
    """
    specificities = [
        float(np.mean(decision[labels != k] != k)) if (labels != k).any() else 0.0 for k in range(n_classes)
    ]
    recalls = class_recalls(labels, decision, n_classes)
    return float(np.sqrt(np.mean(recalls) * np.mean(specificities)))


def one_hot(labels: LabelArray, n_classes: int) -> Float64Array:
    """``[N, K]`` rows with a single 1."""
    return np.eye(n_classes)[labels]


def row_log_loss(labels: LabelArray, p: Float64Array) -> Float64Array:
    """``[N]`` -ln p of the true class, with p kept off 0 as scikit-learn does."""
    own = p[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(own, np.finfo(np.float64).eps, 1.0)), dtype=np.float64)


def row_brier(labels: LabelArray, p: Float64Array) -> Float64Array:
    """``[N]`` sum over classes of squared errors, 0…2 (Brier 1950); twice the two-class score for K = 2."""
    return np.asarray(((p - one_hot(labels, p.shape[1])) ** 2).sum(axis=1), dtype=np.float64)


def top_label_gap(labels: LabelArray, p: Float64Array) -> tuple[Float64Array, npt.NDArray[np.int64], int]:
    """Confidence less correctness of the most probable class, and the bins they are averaged in.

    Returns:
        ``[N]`` gaps, ``[N]`` bin of equal mass by confidence, and the number of bins.
    """
    confidence = p.max(axis=1)
    bins, n_bins = ece_bin_of_row(confidence)
    return confidence - (p.argmax(axis=1) == labels), bins, n_bins


def top_label_ece(labels: LabelArray, p: Float64Array) -> float:
    """Return the expected calibration error of the most probable class (Guo et al. 2017), equal-mass bins."""
    gap, bins, n_bins = top_label_gap(labels, p)
    return float(np.abs(np.bincount(bins, weights=gap, minlength=n_bins)).sum() / len(labels))


def macro_auroc(labels: LabelArray, p: Float64Array) -> float:
    """Mean over classes of the AUROC of p_k, class k against the rest."""
    return float(roc_auc_score(one_hot(labels, p.shape[1]), p, average="macro"))


def check_classes(labels: LabelArray, p: Float64Array, decision: LabelArray) -> None:
    """Refuse rows that no metric is defined on.

    Raises:
        DataError: shapes do not fit, a class has no rows (its recall is undefined), or the rows are no
            probabilities.
    """
    if p.ndim != 2 or len(p) != len(labels) or len(decision) != len(labels):
        raise DataError(
            f"metrics: {len(labels)} labels, {len(decision)} decisions, probabilities {p.shape}. "
            "Give [N] labels, [N] decisions and [N, K] probabilities."
        )
    n_classes = p.shape[1]
    missing = sorted(set(range(n_classes)) - set(np.unique(labels).tolist()))
    if missing:
        raise DataError(
            f"metrics: class {missing[0]} of {n_classes} has no rows. Hold out rows of each class."
        )
    if not bool(((p >= 0) & (p <= 1)).all()) or not np.allclose(p.sum(axis=1), 1.0, atol=1e-6):
        raise DataError(
            "metrics: some rows are NaN, outside 0 to 1 or do not sum to 1. Give probabilities, not logits."
        )


def multiclass_metrics(labels: LabelArray, p: Float64Array, decision: LabelArray) -> dict[str, float]:
    """Every metric of :data:`MULTICLASS_METRICS` by name.

    Args:
        labels: ``[N]`` class index 0…K-1, minority last.
        p: ``[N, K]`` probabilities, rows summing to 1.
        decision: ``[N]`` decided class index.

    Returns:
        Values by name. ``acsa`` is the mean class recall, also called balanced accuracy.

    Raises:
        DataError: see :func:`check_classes`.
    """
    p = np.asarray(p, dtype=np.float64)
    check_classes(labels, p, decision)
    n_classes = p.shape[1]
    return {
        "acsa": float(balanced_accuracy_score(labels, decision)),
        "g_mean_product": g_mean_product(labels, decision, n_classes),
        "g_mean_macro": g_mean_macro(labels, decision, n_classes),
        "macro_f1": float(f1_score(labels, decision, average="macro", zero_division=0)),
        "macro_auroc": macro_auroc(labels, p),
        "macro_average_precision": float(
            average_precision_score(one_hot(labels, n_classes), p, average="macro")
        ),
        "accuracy": float(accuracy_score(labels, decision)),
        "log_loss": float(log_loss(labels, p, labels=np.arange(n_classes))),
        "brier": float(row_brier(labels, p).mean()),
        "ece": top_label_ece(labels, p),
    }
