"""The rows that one-class members learn from: the majority's, all of them or a random draw."""

from __future__ import annotations

import numpy as np

from contracts.errors import DataError
from contracts.rows import ImageRows, IndexArray, majority_positions


def majority_rows(name: str, rows: ImageRows) -> ImageRows:
    """The rows of every class but the last.

    Args:
        name: of the member, for the message.
        rows: training rows.

    Raises:
        DataError: there are none.
    """
    positions = majority_positions(rows)
    if len(positions) == 0:
        raise DataError(f"{name}: no majority images to learn from. Check the labels.")
    return rows.subset(positions)


def drawn_rows(n_rows: int, most: int, seed: int) -> IndexArray:
    """All positions 0…n_rows-1, or ``most`` of them drawn at random without replacement, in rising order.

    Args:
        n_rows: how many there are.
        most: how many to take at most.
        seed: of the draw.
    """
    if n_rows <= most:
        return np.arange(n_rows, dtype=np.int64)
    # Rising order, because features lie on disk in row order.
    return np.sort(np.random.default_rng(seed).choice(n_rows, most, replace=False)).astype(np.int64)
