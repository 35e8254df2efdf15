"""Which test rows a report shows: the model's most confident errors and hits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from contracts.rows import LabelArray
from evaluation.rows import Float64Array

PICTURES = 8
"""Rows of each kind."""

MOST_CLASSES = 12
"""Classes of which a correct row is shown."""

Positions = npt.NDArray[np.int64]


def confident_examples(
    p: Float64Array,
    decision: LabelArray,
    labels: LabelArray,
    count: int = PICTURES,
    most_classes: int = MOST_CLASSES,
) -> dict[str, Positions]:
    """Positions of the rows that the model is most confident of, the most confident first.

    Args:
        p: ``[N, K]`` class probabilities, minority last.
        decision: ``[N]`` decided class index.
        labels: ``[N]`` class index.
        count: of each kind, at most.
        most_classes: of which a correct row is shown, the last ones; for K > 2.

    Returns:
        ``missed`` and ``found`` of the minority, for any K. For two classes also ``false alarms`` and
        ``true negatives``; for more ``wrong`` decisions of any class, and ``right``, one row of each class,
        the minority's first. Ties are in row order.
    """
    is_right, is_minority = decision == labels, labels == p.shape[1] - 1
    # Stable, so that ties are in row order and the page does not change between two runs.
    falling, rising = np.argsort(-p[:, -1], kind="stable"), np.argsort(p[:, -1], kind="stable")
    missed = _first(rising, ~is_right & is_minority, count)
    found = _first(falling, is_right & is_minority, count)
    if p.shape[1] == 2:
        return {
            "false alarms": _first(falling, ~is_right & ~is_minority, count),
            "missed": missed,
            "found": found,
            "true negatives": _first(rising, is_right & ~is_minority, count),
        }
    by_confidence = np.argsort(-p[np.arange(len(p)), decision], kind="stable")
    # From the last class, the minority, backwards: where classes are too many, the rarest are shown.
    last_first = range(p.shape[1] - 1, max(-1, p.shape[1] - 1 - most_classes), -1)
    one_of_each = [_first(by_confidence, is_right & (labels == label), 1) for label in last_first]
    return {
        "wrong": _first(by_confidence, ~is_right, count),
        "missed": missed,
        "found": found,
        "right": np.concatenate(one_of_each),
    }


def _first(order: Positions, chosen: npt.NDArray[np.bool_], count: int) -> Positions:
    return order[chosen[order]][:count]
