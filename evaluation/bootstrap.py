"""A stratified, group-clustered bootstrap, vectorised over replicates.

A replicate is a row of multiplicities: how often each row was drawn. Groups (patients, lots) are
drawn whole, within strata of equal class content, so that no replicate loses a class and rows that
belong together stay together (cluster bootstrap, Davison & Hinkley 1997). Metrics then
become weighted metrics, computed for a block of replicates at once from one sort of the scores.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from contracts.rows import LabelArray
from evaluation.metrics import METRICS, Float64Array, ece_bin_of_row

# 2**21 float64 weights are 16 MiB; a handful of such arrays live at once.
WEIGHTS_PER_BLOCK = 2**21


def _group_strata(
    labels: LabelArray, groups: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], LabelArray]:
    """``[N]`` dense group index of each row and ``[G]`` stratum of each group: the classes it holds."""
    _, group_of_row = np.unique(groups, return_inverse=True)
    n_groups = int(group_of_row.max()) + 1
    classes, class_of_row = np.unique(labels, return_inverse=True)
    holds = np.zeros((n_groups, len(classes)), dtype=bool)
    holds[group_of_row, class_of_row] = True
    _, stratum_of_group = np.unique(holds, axis=0, return_inverse=True)
    return group_of_row.astype(np.int64), stratum_of_group.astype(np.int64)


def replicate_weights(
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    *,
    n_replicates: int,
    seed: int,
    weights_per_block: int = WEIGHTS_PER_BLOCK,
) -> Iterator[Float64Array]:
    """Yield blocks ``[b, N]`` of row multiplicities until ``n_replicates`` replicates are out.

    Args:
        labels: ``[N]`` class index.
        groups: ``[N]`` group index; rows of one group are always drawn together.
        n_replicates: B, 2,000 for published intervals.
        seed: the replicates follow from it alone, whatever the block size.
        weights_per_block: bound on b * N, hence on memory.

    Yields:
        float64 multiplicities; each replicate draws as many groups a stratum as the stratum has.
    """
    group_of_row, stratum_of_group = _group_strata(labels, groups)
    n_groups = len(stratum_of_group)
    # One stream a stratum: drawing b replicates and then b more equals drawing 2b at once.
    strata = [
        (np.flatnonzero(stratum_of_group == stratum), np.random.default_rng([seed, int(stratum)]))
        for stratum in np.unique(stratum_of_group)
    ]
    block = max(1, weights_per_block // max(1, len(labels)))
    for start in range(0, n_replicates, block):
        b = min(block, n_replicates - start)
        multiplicity = np.empty((b, n_groups), dtype=np.float64)
        for members, rng in strata:
            n = len(members)
            drawn = rng.integers(0, n, size=(b, n)) + np.arange(b)[:, None] * n
            multiplicity[:, members] = np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n)
        yield multiplicity[:, group_of_row]


class WeightedMetrics:
    """All metrics of one (p, threshold) under many row weightings.

    The sort and the ECE bins depend on the scores only and are done once; each call then costs one
    cumulative sum over the majority rows. ECE keeps the bins of the whole sample in every replicate.

    Args:
        labels: ``[N]`` 0 or 1.
        p: ``[N]`` minority probabilities.
        threshold: compared as ``p >= threshold``.
    """

    def __init__(self, labels: LabelArray, p: Float64Array, threshold: float) -> None:
        positive = np.flatnonzero(labels == 1)
        negative = np.flatnonzero(labels == 0)
        self._positive = positive[np.argsort(p[positive], kind="stable")]
        self._negative = negative[np.argsort(p[negative], kind="stable")]
        p_pos, p_neg = p[self._positive], p[self._negative]
        # How many negatives (positives) lie strictly below, and at or below, each positive.
        self._neg_below = np.searchsorted(p_neg, p_pos, side="left")
        self._neg_not_above = np.searchsorted(p_neg, p_pos, side="right")
        self._pos_below = np.searchsorted(p_pos, p_pos, side="left")
        self._flagged_pos = (p_pos >= threshold).astype(np.float64)
        self._spared_neg = (p_neg < threshold).astype(np.float64)
        self._squared_error = (p - labels) ** 2
        bins, n_bins = ece_bin_of_row(p)
        self._calibration_gap = np.zeros((len(p), n_bins))
        self._calibration_gap[np.arange(len(p)), bins] = p - labels

    def __call__(self, weights: Float64Array) -> dict[str, Float64Array]:
        """Return each metric of :data:`evaluation.metrics.METRICS` as ``[B]`` values.

        Args:
            weights: ``[B, N]`` non-negative row weights; each class needs weight in every replicate.
        """
        w_pos, w_neg = weights[:, self._positive], weights[:, self._negative]
        total_pos, total_neg = w_pos.sum(axis=1), w_neg.sum(axis=1)
        total = total_pos + total_neg
        cum_neg = _cumulative(w_neg)
        neg_below = cum_neg[:, self._neg_below]
        # AUROC (Mann-Whitney): each positive beats the negatives below it, and half of the tied ones.
        beaten = (w_pos * (neg_below + cum_neg[:, self._neg_not_above])).sum(axis=1) / 2.0
        # AP: precision of "at or above this positive", averaged over positives; as scikit-learn's
        # sum over distinct thresholds of (R_n - R_{n-1}) P_n, since tied positives share P_n.
        tp_at = total_pos[:, None] - _cumulative(w_pos)[:, self._pos_below]
        flagged_at = tp_at + total_neg[:, None] - neg_below
        precision_at = np.divide(tp_at, flagged_at, out=np.zeros_like(tp_at), where=flagged_at > 0)

        tp, tn = w_pos @ self._flagged_pos, w_neg @ self._spared_neg
        tpr, tnr = tp / total_pos, tn / total_neg
        values = {
            "auroc": beaten / (total_pos * total_neg),
            "average_precision": (w_pos * precision_at).sum(axis=1) / total_pos,
            "balanced_accuracy": (tpr + tnr) / 2.0,
            "hter": 1.0 - (tpr + tnr) / 2.0,
            "f1": 2.0 * tp / (tp + (total_neg - tn) + total_pos),
            "g_mean": np.sqrt(tpr * tnr),
            "brier": weights @ self._squared_error / total,
            "ece": np.abs(weights @ self._calibration_gap).sum(axis=1) / total,
            "recall": tpr,
            "specificity": tnr,
        }
        return {name: values[name] for name in METRICS}


def _cumulative(weights: Float64Array) -> Float64Array:
    """``[B, n + 1]`` sums of the first 0…n columns."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
