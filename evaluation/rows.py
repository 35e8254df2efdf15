"""What models say of test rows: class probabilities and decisions, checked once and used everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import recall_score

from contracts.errors import DataError
from contracts.rows import LabelArray

Float64Array = npt.NDArray[np.float64]

MAX_ECE_BINS = 15
MIN_ROWS_PER_ECE_BIN = 20


@dataclass(frozen=True)
class Rows:
    """Rows with a label, and what one model says of them.

    Attributes:
        labels: ``[N]`` class index 0…K-1, minority last; every class has rows.
        p: ``[N, K]`` float64 class probabilities; each row sums to 1.
        decision: ``[N]`` class index that the model decided.
    """

    labels: LabelArray
    p: Float64Array
    decision: LabelArray

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.p.shape[1])

    @classmethod
    def checked(cls, labels: LabelArray, p: npt.NDArray[np.floating], decision: LabelArray) -> Rows:
        """Rows on which every metric is defined.

        Raises:
            DataError: shapes do not fit, a class has no rows, or ``p`` does not hold probabilities.
        """
        probabilities: Float64Array = np.asarray(p, dtype=np.float64)
        if p.ndim != 2 or len(p) != len(labels) or len(decision) != len(labels):
            raise DataError(
                f"metrics: {len(labels)} labels, {len(decision)} decisions, probabilities {p.shape}. "
                "Give [N] labels, [N] decisions and [N, K] probabilities."
            )
        found, n_classes = set(np.unique(labels).tolist()), p.shape[1]
        unknown = sorted(found - set(range(n_classes)))
        if unknown:
            raise DataError(
                f"metrics: label {unknown[0]}, but probabilities of {n_classes} classes. "
                f"Give labels from 0 to {n_classes - 1}."
            )
        missing = sorted(set(range(n_classes)) - found)
        if missing:
            raise DataError(
                f"metrics: class {missing[0]} of {n_classes} has no rows. Hold out rows of each class."
            )
        # Written so that NaN fails: NaN is neither >= 0 nor <= 1.
        if not bool(((p >= 0) & (p <= 1)).all()) or not np.allclose(p.sum(axis=1), 1.0, atol=1e-6):
            raise DataError(
                "metrics: some rows of probabilities are NaN, outside 0 to 1 or do not sum to 1. "
                "Give probabilities, not logits."
            )
        return cls(labels, probabilities, decision)


def class_probabilities(p: Float64Array) -> Float64Array:
    """``[N, K]`` probabilities of every class.

    Args:
        p: ``[N]`` probabilities of the minority of two classes, or ``[N, K]`` already.
    """
    return np.stack([1.0 - p, p], axis=1) if p.ndim == 1 else p


def class_recalls(labels: LabelArray, decision: LabelArray, n_classes: int) -> Float64Array:
    """``[K]`` share of each class's rows that were decided correctly; 0 for a class without rows."""
    recalls = recall_score(labels, decision, labels=np.arange(n_classes), average=None, zero_division=0)
    return np.asarray(recalls, dtype=np.float64)


def ece_bin_of_row(p: Float64Array) -> tuple[npt.NDArray[np.int64], int]:
    """Cut rows into bins of equal mass by rank; rows with equal ``p`` share a bin.

    Equal-width bins would put nearly every row of a rare-class problem into the first bin. The
    number of bins is 15 (Guo et al. 2017), or as many as leave 20 rows in each.

    Args:
        p: ``[N]`` probabilities.

    Returns:
        ``[N]`` bin index of each row, and the number of bins.
    """
    # With fewer rows per bin the ECE mostly measures the noise of the bins' frequencies, which is never
    # negative and so biases it upwards.
    n_bins = max(1, min(MAX_ECE_BINS, len(p) // MIN_ROWS_PER_ECE_BIN))
    # The lowest rank among ties: the bin then depends on the values only, not on the row order.
    rank = np.searchsorted(np.sort(p), p, side="left")
    return (rank * n_bins) // max(1, len(p)), n_bins


def calibrated_event(rows: Rows) -> tuple[Float64Array, npt.NDArray[np.bool_]]:
    """The probability whose calibration is measured, and whether what it foretells came true.

    For two classes that is the probability of the minority. More classes have no one such class, so it is
    the largest probability, and whether that class is the true one (Guo et al. 2017).

    Returns:
        ``[N]`` probabilities and ``[N]`` outcomes.
    """
    if rows.n_classes == 2:
        return rows.p[:, 1], rows.labels == 1
    return rows.p.max(axis=1), rows.p.argmax(axis=1) == rows.labels
