"""Which images a problem is trained on and which it is judged on, by a seeded draw. Only numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts.rows import IndexArray, LabelArray

MOST_MAJORITY = 300
MOST_TEST = 400
# Of the majority, where there are fewer than MOST_MAJORITY is a share of.
_MAJORITY_SHARE = 0.6
_ENOUGH_TO_JUDGE = 30


@dataclass(frozen=True)
class Draw:
    """Positions of a set's rows.

    The same test images serve every number of labels, and the labels of a smaller number are among those of
    a larger, so that a curve over the number shows the labels and nothing else.

    Attributes:
        seed: of the draw.
        majority: training rows of the majority.
        candidates: minority rows that may be trained on; n labels are the first n.
        test: rows to be judged on; no group of theirs is among the training rows.
    """

    seed: int
    majority: IndexArray
    candidates: IndexArray
    test: IndexArray


def usable_counts(counts: Sequence[int], n_minority: int) -> list[int]:
    """Those numbers of labels that leave as many minority images to judge on, or 30."""
    return [n for n in counts if n_minority - n >= min(n, _ENOUGH_TO_JUDGE) and n < n_minority]


def draw_of(labels: LabelArray, groups: npt.NDArray[np.str_], most_labels: int, seed: int) -> Draw:
    """Draw training rows by whole groups; what is left is the test set, at most 400 images of each class.

    Args:
        labels: ``[N]`` 1 for the minority.
        groups: ``[N]`` names; a group is trained on or judged on, never both.
        most_labels: candidates of the minority.
        seed: of the draw.
    """
    rng = np.random.default_rng([seed, 16])
    wanted = [min(MOST_MAJORITY, int(_MAJORITY_SHARE * (labels == 0).sum())), most_labels]
    names, group_of_row = np.unique(groups, return_inverse=True)
    order = np.argsort(group_of_row, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(group_of_row))[:-1])
    taken: list[list[int]] = [[], []]
    in_training = np.zeros(len(labels), dtype=np.bool_)
    for group in rng.permutation(len(names)):
        # A group enters while it has rows of a class that still lacks some.
        mine = [int(row) for row in members[group]]
        if any(len(taken[labels[row]]) < wanted[labels[row]] for row in mine):
            in_training[mine] = True
            for row in mine:
                if len(taken[labels[row]]) < wanted[labels[row]]:
                    taken[labels[row]].append(row)
    rest = rng.permutation(np.flatnonzero(~in_training))
    test = np.concatenate([rest[labels[rest] == label][:MOST_TEST] for label in (0, 1)])
    majority, candidates = (np.array(rows, dtype=np.int64) for rows in taken)
    return Draw(seed, np.sort(majority), candidates, np.sort(test).astype(np.int64))
