"""Metrics of K-class probabilities that count every class alike, however rare it is."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, recall_score

from contracts.errors import DataError
from contracts.rows import LabelArray
from evaluation.metrics import Float64Array


def class_recalls(labels: LabelArray, decision: LabelArray, n_classes: int) -> Float64Array:
    """``[K]`` share of each class's rows that were decided right."""
    recalls = recall_score(labels, decision, labels=np.arange(n_classes), average=None, zero_division=0)
    return np.asarray(recalls, dtype=np.float64)


def g_mean_product(labels: LabelArray, decision: LabelArray, n_classes: int) -> float:
    """Return the product form (prod of the K recalls)^(1/K): 0 as soon as one class is never found."""
    return float(np.prod(class_recalls(labels, decision, n_classes)) ** (1.0 / n_classes))


def g_mean_macro(labels: LabelArray, decision: LabelArray, n_classes: int) -> float:
    """Mean over classes of the one-vs-rest sqrt(recall * specificity), imbalanced-learn's macro form."""
    recalls = class_recalls(labels, decision, n_classes)
    specificities = [
        float(np.mean(decision[labels != k] != k)) if (labels != k).any() else 0.0 for k in range(n_classes)
    ]
    return float(np.mean(np.sqrt(recalls * np.asarray(specificities))))


def multiclass_metrics(labels: LabelArray, p: Float64Array, decision: LabelArray) -> dict[str, float]:
    """Macro-F1, ACSA, both G-means and log loss.

    Args:
        labels: ``[N]`` class index 0…K-1, minority last.
        p: ``[N, K]`` probabilities, rows summing to 1.
        decision: ``[N]`` decided class index.

    Returns:
        Values by name. ``acsa`` is the mean class recall, also called balanced accuracy.

    Raises:
        DataError: shapes do not fit, or a class has no rows (its recall is undefined).
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
    return {
        "macro_f1": float(f1_score(labels, decision, average="macro", zero_division=0)),
        "acsa": float(balanced_accuracy_score(labels, decision)),
        "g_mean_product": g_mean_product(labels, decision, n_classes),
        "g_mean_macro": g_mean_macro(labels, decision, n_classes),
        "log_loss": float(log_loss(labels, p, labels=np.arange(n_classes))),
    }
