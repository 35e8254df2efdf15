"""How strongly cross-fitted models contradict the label of each training row.

Models that learnt from wrong labels among others still contradict most of them: each row is judged by models
that did not see it, and what a wrong label teaches about its neighbours is outvoted by theirs. Two
witnesses are heard, each as log-odds of another class against the row's own: the ensemble, by its calibrated
probabilities out of fold, and with half the weight the most similar images of other groups, by the share of
each class among them. Members are counted for people to see, but a mean over them ranks no better.

A calibrated probability begins at the class's share among the rows, so that labels of a rare class are
contradicted more easily than those of a frequent one. Where any label may be wrong that is right: wrong ones
make up more of a rare class. Yet it fills the list with doubtful images of the minority, and those hidden in
the majority are what people look for. So we begin half way, on the scale of log-odds, between these shares
and equal ones; confident learning (Northcutt, Jiang & Chuang 2021), which measures each label against the
mean of its class, goes further. ``docs/results/label-audit.md`` holds what was measured, with other rankings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts.rows import LabelArray, MaskArray
from evaluation.rows import Float64Array

NEIGHBOURS = 10
"""Most similar images that are asked."""

_LEAST = 1e-6
"""Probabilities are kept this far from 0, so that log-odds stay finite."""

_DISCOUNT_OF_SHARES = 0.5
"""0 begins at the classes' shares among the rows, 1 at equal ones."""

_WEIGHT_OF_NEIGHBOURS = 0.5

_BLOCK = 1024


@dataclass(frozen=True)
class Suspicions:
    """Which labels are contradicted, N rows of K classes.

    Attributes:
        score: ``[N]`` log-odds that the suggested class is right, and not the label; above 0 the witnesses
            contradict the label on the whole.
        suggested: ``[N]`` the class, other than the label, that the witnesses prefer.
        p_label: ``[N]`` the ensemble's probability of the label.
        p_suggested: ``[N]`` the same of the suggested class.
        members_against: ``[N]`` members that hold the suggested class for more probable than the label.
        neighbours_against: ``[N]`` of the most similar images, those with the suggested class.
    """

    score: Float64Array
    suggested: LabelArray
    p_label: Float64Array
    p_suggested: Float64Array
    members_against: npt.NDArray[np.int64]
    neighbours_against: npt.NDArray[np.int64]

    @property
    def contradicted(self) -> MaskArray:
        """``[N]`` whether the witnesses contradict the label on the whole."""
        return self.score > 0.0


def suspicions_of(
    labels: LabelArray,
    ensemble: Float64Array,
    members: Sequence[Float64Array],
    neighbours: Float64Array,
) -> Suspicions:
    """Hear both witnesses on every row, and count the members.

    Args:
        labels: ``[N]`` as training saw them; every class occurs.
        ensemble: ``[N, K]`` class probabilities at the rows' own class shares, each of a fit without the row.
        members: the same of each member alone; at least one.
        neighbours: ``[N, K]`` share of each class among the most similar rows, as :func:`neighbour_shares`
            gives it.
    """
    n_rows, n_classes = ensemble.shape
    rows = np.arange(n_rows)
    # Of neighbours one of ten is as little as can be seen: half of one is kept for each class.
    seen = (neighbours * NEIGHBOURS + 0.5) / (NEIGHBOURS + 0.5 * n_classes)
    shares = np.bincount(labels, minlength=n_classes) / n_rows
    support = (
        np.log(np.clip(ensemble, _LEAST, 1.0))
        - _DISCOUNT_OF_SHARES * np.log(shares)
        + _WEIGHT_OF_NEIGHBOURS * np.log(seen)
    )
    others = support.copy()
    others[rows, labels] = -np.inf
    suggested = others.argmax(axis=1)
    against = sum((p[rows, suggested] > p[rows, labels]).astype(np.int64) for p in members)
    return Suspicions(
        score=support[rows, suggested] - support[rows, labels],
        suggested=suggested.astype(np.int64),
        p_label=ensemble[rows, labels],
        p_suggested=ensemble[rows, suggested],
        members_against=np.asarray(against, dtype=np.int64),
        neighbours_against=np.rint(neighbours[rows, suggested] * NEIGHBOURS).astype(np.int64),
    )


def neighbour_shares(
    vectors: npt.NDArray[np.floating], labels: LabelArray, groups: npt.NDArray[np.int64], n_classes: int
) -> Float64Array:
    """``[N, K]`` share of each class among the :data:`NEIGHBOURS` most similar rows of other groups.

    Args:
        vectors: ``[N, D]`` any description of the images.
        labels: ``[N]``.
        groups: ``[N]``; rows of one group say nothing of each other, as they may carry the same mistake.
        n_classes: K.

    Returns:
        Shares that add up to 1. Where fewer rows of other groups exist, the mean over those that do.
    """
    spread = np.maximum(vectors.std(axis=0, dtype=np.float64), 1e-6)
    unit = ((vectors - vectors.mean(axis=0, dtype=np.float64)) / spread).astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    of_class = np.eye(n_classes)[labels]
    overall = of_class.mean(axis=0)
    count = min(NEIGHBOURS, len(labels) - 1)
    shares = np.empty((len(labels), n_classes))
    for start in range(0, len(labels), _BLOCK):  # an N x N table would not fit for large sets
        mine = slice(start, start + _BLOCK)
        cosines = unit[mine] @ unit.T
        cosines[groups[mine, None] == groups[None, :]] = -np.inf
        nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        is_other = np.isfinite(np.take_along_axis(cosines, nearest, axis=1))
        total = is_other.sum(axis=1, keepdims=True)
        summed = (of_class[nearest] * is_other[:, :, None]).sum(axis=1)
        shares[mine] = np.where(total > 0, summed / np.maximum(total, 1), overall)
    return shares
