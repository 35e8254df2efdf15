"""AUROC and average precision of one class against the rest, under many row weightings at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from contracts.rows import LabelArray
from evaluation.rows import Float64Array


class Ranking:
    """How well scores rank one class above the rest, ready for any number of bootstrap replicates.

    Both figures need only the weight of the class's own rows at each of their distinct scores ("levels"),
    and the weight of the other rows at each level and between two of them ("slots"). Those are sums of row
    weights, so one sparse matrix times the weights gives them for a block of replicates, without a sort.

    Args:
        is_own: ``[N]`` True for rows of the class; both kinds must be there.
        scores: ``[N]``, higher = more like the class.
    """

    def __init__(self, is_own: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> None:
        own, others = np.flatnonzero(is_own), np.flatnonzero(~is_own)
        levels, level_of_own = np.unique(scores[own], return_inverse=True)
        # 2 L + 1 slots: below the lowest level, at it, between it and the next, at that, and so on.
        # left + right is 2 i for a score below level i and 2 i + 1 for one equal to it.
        slot_of_other = np.searchsorted(levels, scores[others], side="left") + np.searchsorted(
            levels, scores[others], side="right"
        )
        self._n_levels = len(levels)
        sum_of_row = np.concatenate([level_of_own, self._n_levels + slot_of_other])
        entries = (np.ones(len(scores)), (sum_of_row, np.concatenate([own, others])))
        self._sums = csr_array(entries, shape=(3 * self._n_levels + 1, len(scores)))

    def __call__(self, weights_NB: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Return ``[B]`` AUROCs and ``[B]`` average precisions.

        Args:
            weights_NB: ``[N, B]`` row weights, 0 or more; own and other rows need some in every replicate.
        """
        sums = np.asarray(self._sums @ weights_NB)
        own, others = sums[: self._n_levels], sums[self._n_levels :]
        up_to_slot = np.cumsum(others, axis=0)
        below, not_above = up_to_slot[0:-1:2], up_to_slot[1::2]
        total_own, total_others = own.sum(axis=0), up_to_slot[-1]
        # Mann-Whitney: each own row beats the other rows below it, and half of those tied with it.
        beaten = np.einsum("lb,lb->b", own, below + not_above) / 2.0
        # Precision of "at or above this level", averaged over the class's own rows, as scikit-learn sums it.
        found = total_own - np.cumsum(own, axis=0) + own
        flagged = found + total_others - below
        # Where nothing is flagged the level has no weight either; any divisor will do.
        np.maximum(flagged, np.finfo(np.float64).tiny, out=flagged)
        precision_sum = np.einsum("lb,lb->b", own, found / flagged)
        return beaten / (total_own * total_others), precision_sum / total_own


def ranking_figures(is_own: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating]) -> dict[str, float]:
    """``auroc`` and ``average_precision`` of one class against the rest.

    Args:
        is_own: ``[N]`` True for rows of the class; both kinds must be there.
        scores: ``[N]`` finite, higher = more like the class; raw scores and probabilities alike.
    """
    auroc, precision = Ranking(is_own, scores)(np.ones((len(scores), 1)))
    return {"auroc": float(auroc[0]), "average_precision": float(precision[0])}


def macro_auroc(labels: LabelArray, scores: npt.NDArray[np.floating]) -> float:
    """Mean over the K columns of ``scores`` ``[N, K]`` of each class's AUROC against the rest."""
    aurocs = [ranking_figures(labels == k, scores[:, k])["auroc"] for k in range(scores.shape[1])]
    return float(np.mean(aurocs))
