"""Metrics of two-class probabilities at a fixed threshold, computed on the whole set at once.

scikit-learn computes every metric that it has; only HTER, G-mean and the expected calibration error
are our own. Batch-averaged metrics are wrong for rare classes (the mean of per-batch F1 is not F1),
so there is no incremental form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    recall_score,
    roc_auc_score,
)

from contracts.errors import DataError
from contracts.rows import LabelArray

Float64Array = npt.NDArray[np.float64]

MAX_ECE_BINS = 15
MIN_ROWS_PER_ECE_BIN = 20


def decide(p: Float64Array, threshold: float) -> LabelArray:
    """Return ``[N]`` decisions: 1 where ``p >= threshold``, the one comparison used everywhere."""
    return (p >= threshold).astype(np.int64)


def check_two_classes(labels: LabelArray, p: Float64Array) -> None:
    """Refuse rows that no metric is defined on.

    Args:
        labels: ``[N]`` 0 or 1.
        p: ``[N]`` minority probabilities, 0…1.

    Raises:
        DataError: lengths differ, a class is missing, or a probability is NaN or outside 0…1.
    """
    if labels.shape != p.shape:
        raise DataError(f"metrics: {labels.shape} labels but {p.shape} probabilities. Give one a row.")
    counts = [int((labels == k).sum()) for k in (0, 1)]
    if sum(counts) != len(labels):
        raise DataError("metrics: labels other than 0 and 1. Use the metrics for K classes instead.")
    if min(counts) == 0:
        raise DataError(
            f"metrics: {counts[1]} minority and {counts[0]} majority rows, but both classes are needed. "
            "Hold out rows of each class."
        )
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise DataError(
            "metrics: some probabilities are NaN or outside 0 to 1. Give probabilities, not logits."
        )


def auroc(labels: LabelArray, p: Float64Array, threshold: float) -> float:  # noqa: ARG001
    """Area under the ROC curve: the chance that a minority row outranks a majority row, ties half."""
    return float(roc_auc_score(labels, p))


def average_precision(labels: LabelArray, p: Float64Array, threshold: float) -> float:  # noqa: ARG001
    """Average precision (step-wise area under precision-recall); its baseline is the prevalence."""
    return float(average_precision_score(labels, p))


def balanced_accuracy(labels: LabelArray, p: Float64Array, threshold: float) -> float:
    """Mean of recall and specificity at the threshold."""
    return float(balanced_accuracy_score(labels, decide(p, threshold)))


def hter(labels: LabelArray, p: Float64Array, threshold: float) -> float:
    """Half total error rate (FPR + FNR) / 2 at a threshold fixed elsewhere; 1 - balanced accuracy."""
    return 1.0 - balanced_accuracy(labels, p, threshold)


def f1(labels: LabelArray, p: Float64Array, threshold: float) -> float:
    """F1 of the minority class at the threshold; 0 where nothing is flagged."""
    return float(f1_score(labels, decide(p, threshold), zero_division=0))


def recall(labels: LabelArray, p: Float64Array, threshold: float) -> float:
    """Share of the minority rows that are flagged (TPR)."""
    return float(recall_score(labels, decide(p, threshold)))


def specificity(labels: LabelArray, p: Float64Array, threshold: float) -> float:
    """Share of the majority rows that are not flagged (TNR)."""
    return float(recall_score(labels, decide(p, threshold), pos_label=0))


def g_mean(labels: LabelArray, p: Float64Array, threshold: float) -> float:
    """Geometric mean of recall and specificity, sqrt(TPR * TNR)."""
    return float(np.sqrt(recall(labels, p, threshold) * specificity(labels, p, threshold)))


def brier(labels: LabelArray, p: Float64Array, threshold: float) -> float:  # noqa: ARG001
    """Brier score, the mean squared error of the probability."""
    return float(brier_score_loss(labels, p))


def ece_bin_of_row(p: Float64Array) -> tuple[npt.NDArray[np.int64], int]:
    """Cut rows into bins of equal mass by rank; rows with equal ``p`` share a bin.

    Equal-width bins would put nearly every row of a rare-class problem into the first bin. The
    number of bins is 15 (Guo et al. 2017) or as many as leave 20 rows in each.

    Args:
        p: ``[N]`` probabilities.

    Returns:
        ``[N]`` bin index of each row, and the number of bins.
    """
    n_bins = max(1, min(MAX_ECE_BINS, len(p) // MIN_ROWS_PER_ECE_BIN))
    # The lowest rank among ties: the bin then depends on the values only, not on the row order.
    rank = np.searchsorted(np.sort(p), p, side="left")
    return (rank * n_bins) // max(1, len(p)), n_bins


def ece(labels: LabelArray, p: Float64Array, threshold: float = 0.5) -> float:  # noqa: ARG001
    """Return the expected calibration error with equal-mass bins.

    ECE = sum over bins of (rows in bin / N) * |mean p - share of minority rows|
    (Naeini et al. 2015, with the equal-mass bins of Nixon et al. 2019).
    """
    bins, n_bins = ece_bin_of_row(p)
    return float(np.abs(np.bincount(bins, weights=p - labels, minlength=n_bins)).sum() / len(p))


@dataclass(frozen=True)
class Metric:
    """One column of the results table.

    Attributes:
        name: the key in JSON.
        higher_is_better: direction, for tables and gates.
        needs_threshold: False where only the probabilities count.
        compute: ``(labels [N], p [N], threshold) -> value``.
    """

    name: str
    higher_is_better: bool
    needs_threshold: bool
    compute: Callable[[LabelArray, Float64Array, float], float]


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auroc", True, False, auroc),
        Metric("average_precision", True, False, average_precision),
        Metric("balanced_accuracy", True, True, balanced_accuracy),
        Metric("hter", False, True, hter),
        Metric("f1", True, True, f1),
        Metric("g_mean", True, True, g_mean),
        Metric("brier", False, False, brier),
        Metric("ece", False, False, ece),
        Metric("recall", True, True, recall),
        Metric("specificity", True, True, specificity),
    )
}


def point_metrics(labels: LabelArray, p: Float64Array, threshold: float) -> dict[str, float]:
    """Every metric of :data:`METRICS` by name.

    Args:
        labels: ``[N]`` 0 or 1 = minority.
        p: ``[N]`` minority probabilities after the prior shift.
        threshold: compared as ``p >= threshold``.

    Raises:
        DataError: see :func:`check_two_classes`.
    """
    p = np.asarray(p, dtype=np.float64)
    check_two_classes(labels, p)
    return {name: metric.compute(labels, p, threshold) for name, metric in METRICS.items()}
