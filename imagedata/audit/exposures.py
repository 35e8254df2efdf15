"""Are two pictures one exposure? A verdict on pixels.

Re-encoding, resizing, brightness, a slight crop or rotation leave the detail of an exposure where it was:
once the pictures are registered, the residual is what the encoder threw away. Two exposures of one thing, or
of two things that look alike, differ in structure and in their own noise. So two questions are asked, block
by block: does detail of a few pixels' size agree, and does the finest detail where nothing outshines it?
The second tells solar cells apart that differ by nothing but noise and a faint streak.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from contracts.errors import ImageError
from contracts.machine import usable_cpus
from imagedata.audit.registration import Picture, halved, register, warped
from imagedata.decoding.decode import load_whole, opened_image, to_rgb

COMPARED_SIDE = 256
"""Most pixels per side at which two pictures are compared; smaller ones are compared at their own size."""

LEAST_SIDE = 12
"""Fewest pixels per side at which anything is compared."""

MOST_DISTANCE = 0.03
"""Distance above which two pictures are never one exposure, however different the others of a set are."""

SURE_DISTANCE = 0.002
"""Distance below which they are, however alike the others are; a JPEG of quality 75 stays below it on
solar cells and screws."""

_SPREADS = 5.0
"""Robust standard deviations, of the logarithm of distances, by which a copy lies below the usual
distance of a set's close pictures."""

_BAND = (1.5, 6.0)  # standard deviations in pixels of the Gaussians whose difference is the detail
_BAND_OF_SMALL = (0.6, 3.0)  # of pictures below 64 pixels, which hold no more than that
_FINE_BAND = (0.6, 2.0)
_TRIMMED = 0.1  # of the blocks with detail: a date or a label covers fewer
_ROUNDING = 0.15  # grey levels squared: what rounding to whole grey values leaves in the band
_LEAST_DETAIL = 1.0  # grey levels squared; below it two pictures show too little to be told apart
_NOISE = 0.1  # grey levels squared of the finest detail that count as an exposure's own noise
_SHARED_NOISE = 0.35
"""Least correlation of the noise of two copies. Different solar cells, smears and frames have at most 0.26,
JPEGs of quality 75 at least 0.5."""

_SHARED_NOISE_OF_REDUCED = 0.75
"""The same for pictures compared at half their size or less, where noise is averaged away and what is left is
shared: different solar cells then have up to 0.74, copies at half the size 0.95."""

_KEPT = 256  # pictures
_HOPELESS = 0.3  # distance of the halved pictures, registered, from which full size is not tried


@dataclass(frozen=True)
class Comparison:
    """What two pictures have in common.

    Attributes:
        distance: 1 less the correlation of their detail, without the worst tenth of blocks; 0 for equal
            pictures, about 1 for unrelated ones. Infinite where they show too little detail.
        noise: median correlation of their finest detail over blocks where both have some; 1 where there
            are too few such blocks to say anything.
        least_noise: that copies have at least, at the size of this comparison.
    """

    distance: float
    noise: float
    least_noise: float = _SHARED_NOISE

    def is_one_exposure(self, limit: float) -> bool:
        """Whether the pictures are copies, at a greatest distance for this set."""
        return self.distance <= limit and self.noise >= self.least_noise


NOTHING_IN_COMMON = Comparison(float("inf"), 0.0)


def compared(one: Picture, other: Picture, stored_side: int = 0) -> Comparison:
    """Compare two pictures as they lie and, unless that suffices, laid over each other.

    Args:
        one: ``[s, s]`` grey values 0…255, s at least :data:`LEAST_SIDE`.
        other: ``[t, t]``; the larger one is brought to the side of the smaller.
        stored_side: of the larger file, in pixels, before it was reduced to a picture.
    """
    stored_side = max(stored_side, one.shape[0], other.shape[0])
    found = _compared(*_of_one_side(one, other))
    share = min(one.shape[0], other.shape[0]) / stored_side
    # From three quarters of the size down to a half, the bound rises from the one to the other.
    rise = float(np.clip((0.75 - share) / 0.25, 0, 1))
    return replace(found, least_noise=_SHARED_NOISE + rise * (_SHARED_NOISE_OF_REDUCED - _SHARED_NOISE))


def _compared(one: Picture, other: Picture) -> Comparison:
    """Compare two pictures of one side."""
    is_large = one.shape[0] >= COMPARED_SIDE // 2
    small, smaller = (halved(one), halved(other)) if is_large else (one, other)
    everywhere = np.ones(small.shape, dtype=np.bool_)
    best = _measured(small, smaller, everywhere)
    if is_large and best.distance <= _HOPELESS:
        best = _measured(one, other, np.ones(one.shape, dtype=np.bool_))
    if best.is_one_exposure(SURE_DISTANCE):
        return best
    warp = register(small, smaller)
    if warp is None or not warp.any():
        return best
    laid_over = _measured(small, *warped(smaller, warp))
    if (
        is_large and laid_over.distance <= _HOPELESS
    ):  # most candidates are settled before, at a quarter of the cost
        laid_over = _measured(one, *warped(other, warp))
    return min(best, laid_over, key=lambda each: each.distance)


def _of_one_side(one: Picture, other: Picture) -> tuple[Picture, Picture]:
    side = min(one.shape[0], other.shape[0])
    left, right = (
        # Antialiased, as the smaller copy was when it was made.
        np.asarray(Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC))
        for each in (one, other)
    )
    return left, right


def _measured(one: Picture, other: Picture, is_inside: npt.NDArray[np.bool_]) -> Comparison:
    """Distance and common noise of two pictures that lie over each other."""
    side = one.shape[0]
    size = 16 if side >= 128 else 8 if side >= 64 else side // 4
    band = _BAND if side >= 64 else _BAND_OF_SMALL
    whole: npt.NDArray[np.bool_] = _blocks(is_inside.astype(np.float32), size).min(axis=1) > 0
    if not whole.any():
        return NOTHING_IN_COMMON
    mine, its = (_blocks(_detail(each, band), size)[whole] for each in (one, other))
    energy, its_energy, common = ((a * b).mean(axis=1) for a, b in ((mine, mine), (its, its), (mine, its)))
    gain_squared = energy.sum() / max(float(its_energy.sum()), 1e-6)
    strength = np.maximum(energy, gain_squared * its_energy)
    if strength.mean() < _LEAST_DETAIL:
        return NOTHING_IN_COMMON
    gain = float(np.sqrt(gain_squared))
    residual = energy - 2 * gain * common + gain_squared * its_energy
    has_detail = np.flatnonzero(strength > max(_LEAST_DETAIL, 0.05 * np.quantile(strength, 0.9)))
    worst = has_detail[np.argsort(-residual[has_detail])[: round(_TRIMMED * len(has_detail))]]
    kept = np.ones(len(residual), dtype=np.bool_)
    kept[worst] = False
    left, right = float(energy[kept].sum()), float(its_energy[kept].sum())
    # Rounding alone parts the pictures by so much; it must not count against dull ones.
    rounding = _ROUNDING * int(kept.sum())
    product = np.sqrt(max(left - rounding, 1e-6) * max(right - rounding / max(gain_squared, 1e-6), 1e-6))
    distance = max(0.0, 1.0 - float(common[kept].sum()) / float(product))
    return Comparison(distance, _common_noise(one, other, size, whole))


def _common_noise(one: Picture, other: Picture, size: int, whole: npt.NDArray[np.bool_]) -> float:
    """Median correlation of the finest detail over the duller half of blocks, where noise is not outshone."""
    mine, its = (_blocks(_detail(each, _FINE_BAND), size)[whole] for each in (one, other))
    energy, its_energy, common = ((a * b).mean(axis=1) for a, b in ((mine, mine), (its, its), (mine, its)))
    weaker = np.minimum(energy, its_energy)
    noisy = weaker > _NOISE
    if noisy.sum() < max(8, len(noisy) // 10):
        return 1.0
    duller = noisy & (weaker <= np.median(weaker[noisy]))
    return float(np.median(common[duller] / np.sqrt(energy[duller] * its_energy[duller])))


def _detail(picture: Picture, band: tuple[float, float]) -> Picture:
    from scipy.ndimage import gaussian_filter

    fine, coarse = (gaussian_filter(picture, sigma, mode="nearest", truncate=3.0) for sigma in band)
    detail: Picture = fine - coarse
    return detail


def _blocks(picture: Picture, size: int) -> Picture:
    """``[n, size * size]`` squares of a picture; what is left at its edges falls away."""
    count = picture.shape[0] // size
    cut = picture[: count * size, : count * size].reshape(count, size, count, size)
    return cut.transpose(0, 2, 1, 3).reshape(count * count, size * size)


def limit_of(distances: npt.NDArray[np.float64]) -> float:
    """The greatest distance of two copies in a set, given the distances of close pictures that are none.

    Args:
        distances: ``[n]`` of near neighbours; copies among them are passed over.

    Returns:
        At least :data:`SURE_DISTANCE` and at most :data:`MOST_DISTANCE`: five robust standard deviations
        below the median, both of the logarithm.
    """
    others = distances[np.isfinite(distances) & (distances > SURE_DISTANCE)]
    if len(others) < 8:
        return MOST_DISTANCE
    logarithms = np.log(np.minimum(others, 1.0))
    median = float(np.median(logarithms))
    spread = 1.4826 * float(np.median(np.abs(logarithms - median)))
    return float(np.clip(np.exp(median - _SPREADS * spread), SURE_DISTANCE, MOST_DISTANCE))


Reader = Callable[[int], bytes]
"""Position of a file → its bytes; raises :class:`contracts.errors.ImageError` where it is gone."""


class Pictures:
    """Grey pictures of files by position, decoded when asked for; some hundreds of them are kept, 16 MB.

    Args:
        read: bytes of a file.
        window: of 16-bit images, as for training.
    """

    def __init__(self, read: Reader, window: tuple[float, float] | None = None) -> None:
        self._read, self._window = read, window
        self.of = lru_cache(maxsize=_KEPT)(self._decoded)

    def _decoded(self, position: int) -> tuple[Picture, int] | None:
        """``[s, s]`` grey values, upright and stretched to a square, and the shorter side that is stored.

        None where the file is gone.
        """
        try:
            data = self._read(position)
            with opened_image(data) as image:
                stored_side = min(image.size)
                side = max(LEAST_SIDE, min(COMPARED_SIDE, stored_side))
                if image.format == "JPEG":
                    # libjpeg decodes an eighth to a half of each side, never below what is asked for.
                    image.draft(image.mode, (COMPARED_SIDE, COMPARED_SIDE))
                load_whole(image, data)
                grey = to_rgb(ImageOps.exif_transpose(image), self._window).convert("L")
        except ImageError:
            return None
        small = grey.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.asarray(small, dtype=np.float32), stored_side


@dataclass(frozen=True)
class Verdicts:
    """Which pairs are copies.

    Attributes:
        is_copy: ``[P]``.
        distance: ``[P]`` of each pair.
        limit: greatest distance of copies in this set.
    """

    is_copy: npt.NDArray[np.bool_]
    distance: npt.NDArray[np.float64]
    limit: float


def judge(
    pairs: npt.NDArray[np.int64],
    is_mirrored: npt.NDArray[np.bool_],
    others: npt.NDArray[np.int64],
    pictures: Pictures,
) -> Verdicts:
    """Compare pairs of files by their pixels, several at a time.

    Args:
        pairs: ``[P, 2]`` positions of files.
        is_mirrored: ``[P]`` whether the second one is looked at in a mirror.
        others: ``[Q, 2]`` close pictures that are hardly copies, from which the set's own limit comes; only
            looked at where some pair needs it.
        pictures: of the files.
    """

    def compare(pair: tuple[int, int, bool]) -> Comparison:
        one, other = pictures.of(pair[0]), pictures.of(pair[1])
        if one is None or other is None:
            return NOTHING_IN_COMMON
        seen = np.ascontiguousarray(other[0][:, ::-1]) if pair[2] else other[0]
        return compared(one[0], seen, max(one[1], other[1]))

    # NumPy, SciPy and Pillow let go of the interpreter's lock, so threads suffice and share the pictures.
    with ThreadPoolExecutor(usable_cpus()) as pool:
        found = list(pool.map(compare, zip(*pairs.T.tolist(), is_mirrored.tolist(), strict=True)))
        distance = np.array([each.distance for each in found], dtype=np.float64)
        limit = MOST_DISTANCE
        if ((distance > SURE_DISTANCE) & (distance <= MOST_DISTANCE)).any():
            usual = pool.map(compare, ((left, right, False) for left, right in others.tolist()))
            limit = limit_of(np.array([each.distance for each in usual]))
    is_copy = np.array([each.is_one_exposure(limit) for each in found], dtype=np.bool_)
    return Verdicts(is_copy, distance, limit)
