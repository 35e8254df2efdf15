"""The features of a batch of images, the only input of member modules; and pictures in tiles.

A picture in tiles is cut for the backbone, which sees each tile by itself, and its features are put together
again: N pictures of t x t tiles go through as N t^2 images, the maps of a picture's tiles are laid side by
side, and vectors averaged. Whoever reads the features sees one picture of t times the side. All is reshaping
and permuting, so that it goes into a traced graph with a free batch size.

A tile's border is a border to the backbone: its convolutions pad with zeros there, and nothing beyond it is
seen. Neighbourhood pooling follows on the maps put together and mixes the cells on both sides. Tiles do not
overlap: what an inner border costs is measured in docs/results/tiles.md.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class BackboneFeatures(NamedTuple):
    """Features of a batch of N images.

    Attributes:
        images: ``[N, 3, S, S]`` float32 RGB at the working size, 0…255, not normalised.
        pooled: ``[N, D]`` float32 spatial means of deep layers, for heads.
        patches: ``[N, C, g, g]`` float32 neighbourhood-pooled mid-level layers, for one-class members.
    """

    images: Tensor
    pooled: Tensor
    patches: Tensor


def cut(images: Tensor, tiles: int) -> Tensor:
    """``[N t^2, C, S, S]`` tiles of ``[N, C, t S, t S]`` images, each picture's row by row.

    Args:
        images: whose sides are multiples of ``tiles``.
        tiles: t, tiles per side; 1 leaves the images as they are.
    """
    if tiles == 1:
        return images
    n, channels, height, width = images.shape
    side_h, side_w = height // tiles, width // tiles
    grid = images.reshape(n, channels, tiles, side_h, tiles, side_w)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(n * tiles * tiles, channels, side_h, side_w)


def laid_together(maps: Tensor, tiles: int) -> Tensor:
    """``[N, C, t h, t w]`` maps of whole pictures from ``[N t^2, C, h, w]`` of their tiles."""
    if tiles == 1:
        return maps
    n, channels, height, width = maps.shape
    grid = maps.reshape(n // (tiles * tiles), tiles, tiles, channels, height, width)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(
        n // (tiles * tiles), channels, tiles * height, tiles * width
    )


def averaged(vectors: Tensor, tiles: int) -> Tensor:
    """``[N, D]`` means over each picture's tiles, of ``[N t^2, D]``."""
    if tiles == 1:
        return vectors
    n, dim = vectors.shape
    return vectors.reshape(n // (tiles * tiles), tiles * tiles, dim).mean(dim=1)
