"""The rows that one-class members learn from: the majority's, all of them or a random draw.

And those that their scores are relative to: see :meth:`features.member.ModuleMember._standardise`.
"""

from __future__ import annotations

import numpy as np

from contracts.errors import DataError
from contracts.rows import ImageRows, IndexArray, MaskArray, majority_positions


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


REFERENCE_ROWS = 512
"""Normal images, at most, that location and spread of the scores are taken from: enough for a standard error
of .04 standard deviations, whatever the data set's size."""


_PARTS = 5
_ENOUGH_HELD_OUT = 256


def families_of(rows: ImageRows) -> IndexArray:
    """``[N]`` numbers of the rows that must not vouch for each other: equal for rows of one group.

    Where all rows are of one group, each row stands for itself, because nothing else is left to compare.
    """
    groups = rows.groups
    return np.arange(len(rows)) if len(np.unique(groups)) == 1 else np.asarray(groups, dtype=np.int64)


def held_out_parts(
    families: IndexArray,
    seed: int,
    n_parts: int = _PARTS,
    *,
    enough: int = _ENOUGH_HELD_OUT,
    most: int | None = None,
) -> list[MaskArray]:
    """``[N]`` rows to hold out of a fit that is made for the scale of the scores alone, part by part.

    Each part is an equal share of the families, drawn at random. Parts that are enough are returned, so that
    large data sets pay for one fit more and not for five. A single family gives none.

    Args:
        families: ``[N]`` see :func:`families_of`.
        seed: of the draw.
        n_parts: that the families are divided into. With more parts a fit without one has nearly as many rows
            as the whole.
        enough: rows to hold out, all parts together.
        most: parts to return, whether or not they hold enough rows; None for all.
    """
    names, family = np.unique(families, return_inverse=True)
    if len(names) == 1:
        return []
    # A stream of its own, so that the parts do not follow from what the seed decides elsewhere.
    part = (np.random.default_rng([seed, 1]).permutation(len(names)) % n_parts)[family]
    masks = [part == k for k in range(min(n_parts, len(names)))]
    n_needed = 1 + int(np.searchsorted(np.cumsum([mask.sum() for mask in masks]), enough))
    return masks[:n_needed][:most]


def reference_positions(n_rows: int) -> IndexArray:
    """At most :data:`REFERENCE_ROWS` positions 0…n_rows-1, evenly spaced."""
    return np.arange(0, n_rows, -(-n_rows // REFERENCE_ROWS), dtype=np.int64)


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
