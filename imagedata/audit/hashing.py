"""Perceptual hashes of thumbnails, and pairs of near ones among very many.

A hash is 64 bits: which of the 64 lowest frequencies of a 32 x 32 picture lie above their median
(after Zauner 2010, "pHash"; there the square of 8 x 8 frequencies, here those of lowest order without
the mean). Two hashes that differ in at most ``d`` bits agree in at least one of ``d + 1`` bands
(pigeonhole), so near pairs are found among equal bands, and all pairs are never formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from imagedata.audit.facts import THUMBNAIL_SIDE

HASH_DISTANCE = 8
"""Most bits, of 64, in which hashes of near copies differ."""

MAX_PAIRS = 500_000
"""Most near pairs that are looked at; a film or a set of blanks would have billions."""

_ROWS_PER_BLOCK = 512  # of thumbnails as floats 2 MB, several times over while they are compared
_COMPARED_AT_ONCE = 2048

Hashes = npt.NDArray[np.uint64]
Correlations = npt.NDArray[np.float32]


class Thumbnails(Protocol):
    """``[N, 32, 32]`` uint8, an array or what reads one block by block."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, places: Any) -> npt.NDArray[np.uint8]:
        """Some of them, by a slice or an array of places."""


def perceptual_hashes(thumbnails: Thumbnails) -> tuple[Hashes, Hashes]:
    """``[N]`` hashes of ``[N, 32, 32]`` grey thumbnails, and of their mirror images."""
    n = THUMBNAIL_SIDE
    # DCT-II: row u holds cos(pi (2 x + 1) u / 2 n).
    basis = np.cos(np.pi * np.outer(np.arange(n), 2 * np.arange(n) + 1) / (2 * n)).astype(np.float32)
    order = sorted(((u, v) for u in range(n) for v in range(n)), key=lambda uv: (sum(uv), uv))[1:65]
    rows, columns = (np.array(part) for part in zip(*order, strict=True))
    reach = int(max(rows.max(), columns.max())) + 1
    # Neighbouring frequencies go together in pictures; strided, they fall into different bands.
    strided = np.arange(64).reshape(8, 8).T.ravel()
    weights = np.left_shift(np.uint64(1), np.arange(64, dtype=np.uint64))
    hashes, mirrored = (np.empty(len(thumbnails), dtype=np.uint64) for _ in range(2))
    # In a mirror, the frequencies that are odd from left to right change their sign.
    sign = np.where(columns % 2, -1.0, 1.0).astype(np.float32)[strided]
    for start in range(0, len(thumbnails), _ROWS_PER_BLOCK):
        block = thumbnails[start : start + _ROWS_PER_BLOCK].astype(np.float32)
        spectrum = basis[:reach] @ block @ basis[:reach].T
        values = spectrum[:, rows, columns][:, strided]
        for target, seen in ((hashes, values), (mirrored, values * sign)):
            bits = seen > np.median(seen, axis=1, keepdims=True)
            target[start : start + len(block)] = (bits * weights).sum(axis=1, dtype=np.uint64)
    return hashes, mirrored


def near_pairs(hashes: Hashes, distance: int = HASH_DISTANCE) -> Iterator[npt.NDArray[np.int64]]:
    """Yield blocks ``[P, 2]`` of positions whose hashes differ in at most ``distance`` bits.

    Every such pair comes once, the smaller position first.

    Args:
        hashes: ``[N]``.
        distance: 0 to 15.
    """
    edges = np.linspace(0, 64, distance + 2).round().astype(int)
    bands = [
        (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1) for low, high in pairwise(edges)
    ]
    for number, band in enumerate(bands):
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=~band[order[:1]])) if len(order) else order
        sizes = np.diff(starts, append=len(order))
        for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            bucket = np.sort(order[start : start + size])
            for pairs in _pairs_of_bucket(hashes, bucket, distance):
                # A pair that an earlier band has in common was found there.
                is_new = np.ones(len(pairs), dtype=bool)
                for earlier in bands[:number]:
                    is_new &= earlier[pairs[:, 0]] != earlier[pairs[:, 1]]
                if is_new.any():
                    yield pairs[is_new]


def _pairs_of_bucket(
    hashes: Hashes, bucket: npt.NDArray[np.int64], distance: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Near pairs within one bucket of ascending positions, a square of comparisons at a time."""
    mine = hashes[bucket]
    for start in range(0, len(bucket), _COMPARED_AT_ONCE):
        stop = min(start + _COMPARED_AT_ONCE, len(bucket))
        for other in range(start, len(bucket), _COMPARED_AT_ONCE):
            differing = np.bitwise_count(
                mine[start:stop, None] ^ mine[None, other : other + _COMPARED_AT_ONCE]
            )
            left, right = np.nonzero(differing <= distance)
            keep = left + start < right + other
            if keep.any():
                yield np.stack([bucket[left[keep] + start], bucket[right[keep] + other]], axis=1)


_WHOLE, _DETAIL = 0.9, 0.4
"""Least correlations of two thumbnails, as they are and of their detail, at which pixels are worth a look.

Copies that were cropped or turned by little still have them; a verdict they are not."""

_WHOLE_ALIKE, _DETAIL_ALIKE = 0.985, 0.8
"""The same for sets whose pictures are alike by nature, such as solar cells and aligned parts."""

_ALIKE_QUANTILE = 0.9
_ALIKE = 0.6
_SAMPLED_PAIRS = 20_000


def are_alike(thumbnails: Thumbnails) -> bool:
    """Whether a tenth of all pairs of a set agree in detail: parts in one place, cells with the same lines.

    Faces and X-rays share their layout only (one pair in a hundred correlates by 0.3 in detail), solar cells
    their lines as well (every other pair by 0.69).
    """
    n = len(thumbnails)
    if n < 2:
        return False
    pairs = np.random.default_rng(0).integers(0, n, (_SAMPLED_PAIRS if n > 200 else n * n, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    detail = correlations(thumbnails, pairs, np.zeros(len(pairs), dtype=np.bool_))[1]
    return bool(np.quantile(detail, _ALIKE_QUANTILE) > _ALIKE)


def worth_a_look(whole: Correlations, detail: Correlations, *, alike: bool) -> npt.NDArray[np.bool_]:
    """``[P]`` whether pairs of thumbnails agree so far that their pixels are compared."""
    least_whole, least_detail = (_WHOLE_ALIKE, _DETAIL_ALIKE) if alike else (_WHOLE, _DETAIL)
    return (whole >= least_whole) & (detail >= least_detail)


def correlations(
    thumbnails: Thumbnails, pairs: npt.NDArray[np.int64], is_mirrored: npt.NDArray[np.bool_]
) -> tuple[Correlations, Correlations]:
    """``[P]`` and ``[P]`` correlations of pairs of thumbnails, as they are and of their detail.

    Args:
        thumbnails: ``[N, 32, 32]`` grey.
        pairs: ``[P, 2]`` positions.
        is_mirrored: ``[P]`` whether the second one is looked at in a mirror.
    """
    whole, detail = (np.zeros(len(pairs), dtype=np.float32) for _ in range(2))
    for start in range(0, len(pairs), _ROWS_PER_BLOCK):
        part = slice(start, start + _ROWS_PER_BLOCK)
        left, right = (thumbnails[pairs[part, side]].astype(np.float32) for side in (0, 1))
        right[is_mirrored[part]] = right[is_mirrored[part], :, ::-1]
        whole[part] = _correlation(left, right)
        detail[part] = _correlation(_detail(left), _detail(right))
    return whole, detail


def _correlation(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``[P]`` Pearson correlation of pictures ``[P, h, w]``; 0 where one of them is flat."""
    left = left - left.mean(axis=(1, 2), keepdims=True)
    right = right - right.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt((left * left).sum(axis=(1, 2)) * (right * right).sum(axis=(1, 2)))
    product = (left * right).sum(axis=(1, 2))
    correlation: npt.NDArray[np.float32] = np.zeros_like(product)
    np.divide(product, norm, out=correlation, where=norm > 0)
    return correlation


def _detail(pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Inner pixels less the mean of their 3 x 3 neighbourhood."""
    padded = np.cumsum(np.cumsum(np.pad(pictures, ((0, 0), (1, 0), (1, 0))), axis=1), axis=2)
    sums = padded[:, 3:, 3:] - padded[:, :-3, 3:] - padded[:, 3:, :-3] + padded[:, :-3, :-3]
    detail: npt.NDArray[np.float32] = pictures[:, 1:-1, 1:-1] - sums / 9.0
    return detail
