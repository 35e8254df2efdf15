"""Which images a person should look at first: those that score highest, but not fifty of a kind.

A plain ranking shows what scores highest. Where one kind of anomaly scores highest and is frequent, the first
fifty are fifty times the same, and a second kind waits behind them. So an image is put back in the ranking
for each image before it that resembles it; a family of near copies takes one place.

How far back needs no scale of scores, only their order: an image at rank r that resembles those chosen with a
total of s counts as one at rank r (1 + 2 s). The k-th of a kind that takes the first ranks thus counts as one
at about rank 2 k^2, so a flood of one kind leaves places to a kind behind it (a greedy choice in the manner
of Carbonell & Goldstein 1998, "maximal marginal relevance"; there scores less the largest similarity, here
ranks times the sum, whose effect grows with every further one of a kind).

Measured on 90 draws of 300 images (six steel defects and three blood cells, each the normal class in turn,
nearest neighbours of pooled features as the score): with 12 planted images of 2 to 5 kinds, the first 50 show
97.6 to 97.8 % of the kinds, against 96.3 to 96.6 % of the plain ranking, and 9.1 to 9.8 of the 12 images
against 9.2 to 9.9; with 48, 40 or 45 of them of one kind, 97.5 against 96.1 %, and the first 20 show 88.6
against 84.7 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts.rows import IndexArray
from evaluation.rows import Float64Array

FIRST = 50
"""Images that are worth a look, at most."""

_PUT_BACK = 2.0
"""How much one image of the very same kind puts another back."""

_SHARPNESS = 2.0
"""Power of the cosine. Unrelated images have small cosines of either sign, many of which would add up."""


@dataclass(frozen=True)
class FirstLook:
    """The images to look at, the first one first.

    Attributes:
        positions: ``[M]`` of the images among all N.
        family_sizes: ``[M]`` images of the family that each one stands for, itself among them.
        nearest: ``[M]`` position of the image chosen before that it resembles most; -1 for the first one.
        similarities: ``[M]`` cosine to that image, -1…1; 0 for the first one.
    """

    positions: IndexArray
    family_sizes: IndexArray
    nearest: IndexArray
    similarities: Float64Array


def first_look(
    scores: npt.NDArray[np.floating],
    vectors: npt.NDArray[np.floating],
    usual: npt.NDArray[np.floating],
    families: IndexArray,
    count: int = FIRST,
) -> FirstLook:
    """Choose images by score, each family of near copies once, and of a kind the fewer the more there are.

    Args:
        scores: ``[N]`` finite, higher = more worth a look; only their order counts.
        vectors: ``[N, D]`` any description in which images of a kind lie in one direction from usual ones.
        usual: ``[R, D]`` the same of usual images, or of a sample in which they are the majority; R >= 2.
        families: ``[N]`` equal numbers for near copies of each other.
        count: of images, at most.

    Returns:
        Fewer than ``count`` only where there are fewer families. Equal scores are taken in row order.
    """
    order = np.argsort(-scores, kind="stable")
    # Of each family the image that scores highest stands for all.
    _, first_places, sizes = np.unique(families[order], return_index=True, return_counts=True)
    by_rank = np.argsort(first_places, kind="stable")
    candidates, sizes = order[first_places[by_rank]], sizes[by_rank]
    directions = _directions(vectors[candidates], usual)
    ranks = np.arange(1, len(candidates) + 1, dtype=np.float64)
    put_back = np.ones(len(candidates))
    closest, closest_to = np.zeros(len(candidates)), np.full(len(candidates), -1)
    chosen: list[int] = []
    for _ in range(min(count, len(candidates))):
        place = int(np.argmin(ranks * put_back))
        chosen.append(place)
        ranks[place] = np.inf
        cosines = directions @ directions[place]
        put_back += _PUT_BACK * np.maximum(cosines, 0.0) ** _SHARPNESS
        is_closer = (closest_to < 0) | (cosines > closest)
        # What was chosen keeps the one that came before it.
        is_closer &= np.isfinite(ranks)
        closest[is_closer], closest_to[is_closer] = cosines[is_closer], candidates[place]
    return FirstLook(
        candidates[chosen].astype(np.int64),
        sizes[chosen].astype(np.int64),
        closest_to[chosen].astype(np.int64),
        closest[chosen],
    )


def _directions(vectors: npt.NDArray[np.floating], usual: npt.NDArray[np.floating]) -> Float64Array:
    """``[N, D]`` unit vectors from the median of usual images, in standard deviations of each feature."""
    spread = np.maximum(usual.std(axis=0, dtype=np.float64), 1e-6)
    away = (vectors.astype(np.float64) - np.median(usual, axis=0)) / spread
    length = np.linalg.norm(away, axis=1, keepdims=True)
    directions: Float64Array = np.divide(away, length, out=np.zeros_like(away), where=length > 0)
    return directions
