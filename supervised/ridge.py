"""Choosing a head's ridge within the rows that it is fitted on.

Every ridge of :data:`GRID` is cross-fitted over folds of these rows alone, whole groups at a time, and judged
by the log loss of the rows that each fold holds out, at the class shares of all rows. Of those that are not
worse than the best by more than one standard error of the difference, the strongest is taken (Breiman et al.
1984, "Classification and Regression Trees", section 3.4.3): with few labels the losses hardly differ over
orders of magnitude, and a weak ridge is what overfits.

The standard error is that of the difference on the same rows, group by group. The error of the best one's own
loss, which the book takes, is mostly how hard the rows are, which all ridges share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import DataError
from contracts.rows import IndexArray, LabelArray
from imagedata.folds import assign_folds

GRID = (10_000.0, 3_000.0, 1_000.0, 300.0, 100.0, 30.0, 10.0)
"""Strongest first, so that each optimum is a near start for the next."""

_FOLDS = 5
# A fixed shuffle: a linear head has one optimum and does not depend on the seed of its fit.
_SHUFFLE = 0


@dataclass(frozen=True)
class ChosenRidge:
    """A ridge and what it was chosen by.

    Attributes:
        l2: the ridge.
        losses: cross-fitted log loss of each of :data:`GRID`; empty where nothing could be cross-fitted.
    """

    l2: float
    losses: tuple[float, ...] = ()

    @property
    def sentence(self) -> str:
        """For people."""
        if not self.losses:
            return (
                f"l2=auto: a class has too few independent images to judge ridges on, so it is {self.l2:g}."
            )
        at = GRID.index(self.l2)
        return (
            f"l2=auto: {self.l2:g}, with a cross-fitted log loss of {self.losses[at]:.4f}; the least of "
            f"{len(GRID)} is {min(self.losses):.4f}."
        )

    def to_json(self) -> dict[str, Any]:
        """JSON document, kept with the member's state."""
        return {"l2": self.l2, "log_loss": dict(zip(map(repr, GRID), self.losses, strict=False))}


def folds_to_choose_on(
    labels: LabelArray, groups: IndexArray, n_classes: int
) -> npt.NDArray[np.int64] | None:
    """``[N]`` folds of a fit's own rows, at most 5, that split no group; None where there are too few groups.

    Args:
        labels: ``[N]`` class index, minority last.
        groups: ``[N]`` group numbers.
        n_classes: K.
    """
    names, n_groups = groups.astype(str), [len(np.unique(groups[labels == k])) for k in range(n_classes)]
    if min(n_groups) < 2:
        return None
    for n_folds in range(_FOLDS, 1, -1):
        try:
            return assign_folds(labels, names, tuple(map(str, range(n_classes))), n_folds, _SHUFFLE, "cnn")
        except DataError:  # a class in few or large groups; fewer folds may do
            continue
    return None


def choose_ridge(losses: npt.NDArray[np.float64], groups: IndexArray) -> ChosenRidge:
    """The strongest ridge within one standard error of the best.

    Args:
        losses: ``[R, N]`` log loss of each row under each ridge of :data:`GRID`, by a head that had not seen
            the row's group.
        groups: ``[N]`` group numbers; rows of one group count as one draw.
    """
    means = losses.mean(axis=1)
    best = int(np.argmin(means))
    _, group_of_row = np.unique(groups, return_inverse=True)
    n_groups, n_rows = int(group_of_row.max()) + 1, losses.shape[1]
    for at in range(best):
        worse = losses[at] - losses[best]
        # A mean over rows that come in groups: sums of groups vary, not rows.
        off = np.bincount(group_of_row, weights=worse - worse.mean())
        error = np.sqrt(n_groups / (n_groups - 1) * np.square(off).sum()) / n_rows
        if worse.mean() <= error:
            best = at
            break
    return ChosenRidge(GRID[best], tuple(means.tolist()))
