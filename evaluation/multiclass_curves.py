"""Curves of K-class probabilities with pointwise bootstrap bands: PR of each class, reliability.

Cost and decision curves weigh two kinds of error against each other; with K classes there are K (K - 1)
kinds, and no single curve shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from sklearn.metrics import average_precision_score

from contracts.rows import LabelArray
from evaluation.bootstrap import replicate_weights
from evaluation.curves import RECALLS, Band, central_band, precision_at_recall
from evaluation.metrics import Float64Array
from evaluation.multiclass import check_classes, top_label_gap
from evaluation.multiclass_comparison import WEIGHTS_PER_BLOCK


@dataclass(frozen=True)
class MulticlassCurves:
    """Everything drawn of one model.

    Attributes:
        precision_recall: a class, precision over recall of p_k, class k against the rest.
        average_precision: a class, the area under that curve.
        reliability: share decided right over mean confidence of the most probable class, a point a bin.
    """

    precision_recall: tuple[Band, ...]
    average_precision: tuple[float, ...]
    reliability: Band


class WeightedMulticlassCurves:
    """All curves of one model under many row weightings.

    Precision at a recall changes only at the scores of the class's own rows ("levels"), so a block of
    replicates costs one sparse matrix times the weights, whose sums are the weight of own and of other
    rows between two levels, and of all and of right rows in each reliability bin.

    Args:
        labels: ``[N]`` class index, every class present.
        p: ``[N, K]`` probabilities.
    """

    def __init__(self, labels: LabelArray, p: Float64Array) -> None:
        sums: list[npt.NDArray[np.int64]] = []  # of which sum
        rows: list[npt.NDArray[np.int64]] = []  # a row's weight is part
        self._n_levels: list[int] = []
        start = 0
        for label in range(p.shape[1]):
            is_own = labels == label
            descending = np.unique(p[is_own, label])[::-1]
            # The first level that a row reaches; rows below all of them are never flagged before the end.
            level = np.searchsorted(-descending, -p[:, label], side="left")
            n_levels = len(descending)
            for members, first in ((is_own, start), (~is_own & (level < n_levels), start + n_levels)):
                rows.append(np.flatnonzero(members))
                sums.append(first + level[members])
            self._n_levels.append(n_levels)
            start += 2 * n_levels
        confidence, is_right = p.max(axis=1), p.argmax(axis=1) == labels
        _, bins, _ = top_label_gap(labels, p)
        # Rows of equal confidence share a bin, which can leave others without any.
        _, dense, in_bin = np.unique(bins, return_inverse=True, return_counts=True)
        self._n_bins = len(in_bin)
        for members, first in ((np.ones_like(is_right), start), (is_right, start + self._n_bins)):
            rows.append(np.flatnonzero(members))
            sums.append(first + dense[members])
        entries = np.concatenate(sums), np.concatenate(rows)
        shape = (start + 2 * self._n_bins, len(labels))
        self._sums = csr_array((np.ones(len(entries[0])), entries), shape=shape)
        self.mean_confidence_of_bin: Float64Array = np.bincount(dense, weights=confidence) / in_bin

    def __call__(self, weights_NB: Float64Array) -> tuple[list[Float64Array], Float64Array]:
        """Compute the curves for B replicates.

        Args:
            weights_NB: ``[N, B]`` non-negative row weights; each class needs weight in every replicate. A
                reliability bin without weight gives NaN.

        Returns:
            ``[B, G]`` precision at each of :data:`evaluation.curves.RECALLS`, a class; and ``[B, bins]``
            shares decided right.
        """
        sums_BS = np.asarray(self._sums @ weights_NB).T
        precisions, start = [], 0
        for n_levels in self._n_levels:
            own, others = (sums_BS[:, at : at + n_levels] for at in (start, start + n_levels))
            precisions.append(precision_at_recall(np.cumsum(own, axis=1), np.cumsum(others, axis=1)))
            start += 2 * n_levels
        in_bin, right = sums_BS[:, start : start + self._n_bins], sums_BS[:, start + self._n_bins :]
        return precisions, np.divide(right, in_bin, out=np.full_like(in_bin, np.nan), where=in_bin > 0)


def multiclass_curves(
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    p_of_model: Mapping[str, Float64Array],
    *,
    seed: int,
    n_replicates: int,
) -> dict[str, MulticlassCurves]:
    """Compute every model's curves; the same replicates serve all models.

    Args:
        labels: ``[N]`` class index of test rows, minority last.
        groups: ``[N]`` group index; rows of one group are drawn together.
        p_of_model: model name → ``[N, K]`` probabilities.
        seed: of the bootstrap.
        n_replicates: of the bootstrap, at least 1.

    Raises:
        DataError: a class is missing or probabilities are not probabilities.
    """
    evaluators: dict[str, WeightedMulticlassCurves] = {}
    for name, p in p_of_model.items():
        check_classes(labels, p, labels)
        evaluators[name] = WeightedMulticlassCurves(labels, np.asarray(p, np.float64))
    parts: dict[str, list[tuple[list[Float64Array], Float64Array]]] = {name: [] for name in evaluators}
    for weights in replicate_weights(
        labels, groups, n_replicates=n_replicates, seed=seed, weights_per_block=WEIGHTS_PER_BLOCK
    ):
        weights_NB = np.ascontiguousarray(weights.T)
        for name, evaluate in evaluators.items():
            parts[name].append(evaluate(weights_NB))
    whole_sample = np.ones((len(labels), 1))
    drawn = {}
    for name, evaluate in evaluators.items():
        precisions, right = evaluate(whole_sample)
        drawn[name] = MulticlassCurves(
            precision_recall=tuple(
                central_band(RECALLS, each[0], np.concatenate([part[0][label] for part in parts[name]]))
                for label, each in enumerate(precisions)
            ),
            average_precision=tuple(
                float(average_precision_score(labels == label, p_of_model[name][:, label]))
                for label in range(len(precisions))
            ),
            reliability=central_band(
                evaluate.mean_confidence_of_bin, right[0], np.concatenate([part[1] for part in parts[name]])
            ),
        )
    return drawn
