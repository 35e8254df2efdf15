"""Families of near copies among a few files, in milliseconds a file.

The command ``check`` compares pixels, registers them and finds slight crops and rotations as well; that takes
tens of seconds on parts that all look alike. Where missing a copy costs little, thumbnails suffice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contracts.rows import IndexArray
from imagedata.audit.facts import THUMBNAIL_SIDE, look_at_file
from imagedata.audit.hashing import HASH_DISTANCE, correlations, near_pairs, perceptual_hashes
from imagedata.near_duplicates import components

_LEAST_WHOLE, _LEAST_DETAIL = 0.99, 0.95
"""Least correlations of the thumbnails of two near copies, as they are and of their detail.

Measured on 150 images each of two steels, platelets, aligned screws, faces and chest X-rays: no two of a set
reach .94 in detail, while copies encoded again, at half the size or a tenth brighter have a median of .99
(of platelets, which are blurred, .96)."""


def near_copy_families(files: Sequence[Path], window: tuple[float, float] | None = None) -> IndexArray:
    """``[N]`` numbers of families, in order of appearance; near copies of each other have equal ones.

    Args:
        files: that can be read; one that cannot is a family of its own.
        window: of 16-bit images, as for training.
    """
    thumbnails = _thumbnails(files, window)
    hashes, _ = perceptual_hashes(thumbnails)
    linked: list[tuple[str, str]] = []
    for pairs in near_pairs(hashes):
        copies = pairs[_are_copies(thumbnails, pairs)]
        linked += [(str(left), str(right)) for left, right in copies.tolist()]
    first_of = np.arange(len(files))
    for family in components(linked):
        members = [int(name) for name in family]
        first_of[members] = min(members)
    _, families = np.unique(first_of, return_inverse=True)
    return np.asarray(families, dtype=np.int64)


def near_copies_among(
    files: Sequence[Path], others: Sequence[Path], window: tuple[float, float] | None = None
) -> list[int | None]:
    """For each file the position of a near copy of it among others; None where there is none.

    Args:
        files: N files; one that cannot be read has no copy.
        others: M files.
        window: of 16-bit images, as for training.
    """
    thumbnails = _thumbnails([*others, *files], window)
    hashes, _ = perceptual_hashes(thumbnails)
    theirs = hashes[: len(others)]
    found: list[int | None] = []
    for place in range(len(others), len(thumbnails)):
        near = np.flatnonzero(np.bitwise_count(theirs ^ hashes[place]) <= HASH_DISTANCE)
        pairs = np.stack([near, np.full(len(near), place)], axis=1).astype(np.int64)
        copies = near[_are_copies(thumbnails, pairs)] if len(near) else near
        found.append(int(copies[0]) if len(copies) else None)
    return found


def _thumbnails(files: Sequence[Path], window: tuple[float, float] | None) -> npt.NDArray[np.uint8]:
    """``[N, 32, 32]``; black for a file that cannot be read, which resembles nothing."""
    thumbnails = np.zeros((len(files), THUMBNAIL_SIDE, THUMBNAIL_SIDE), dtype=np.uint8)
    for place, file in enumerate(files):
        if stored := look_at_file(file, window).thumbnail:
            thumbnails[place] = np.frombuffer(stored, dtype=np.uint8).reshape(thumbnails.shape[1:])
    return thumbnails


def _are_copies(thumbnails: npt.NDArray[np.uint8], pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """``[P]`` whether pairs of thumbnails agree as near copies do."""
    whole, detail = correlations(thumbnails, pairs, np.zeros(len(pairs), dtype=np.bool_))
    return (whole >= _LEAST_WHOLE) & (detail >= _LEAST_DETAIL)
