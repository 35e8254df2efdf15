"""Many small pictures on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from contracts.rows import ImageArray

THUMBNAIL = 112
"""Pixels of a thumbnail's longer side, at most."""

COLUMNS = 6
_GAP = 6
_PAPER = 255


def thumbnail(pixels: ImageArray, side: int = THUMBNAIL) -> ImageArray:
    """``[h, w, 3]`` with the longer side at ``side`` at most; small pictures are enlarged by whole numbers.

    Args:
        pixels: ``[H, W, 3]`` uint8 RGB.
        side: in pixels.
    """
    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest > side:
        size = (max(1, round(width * side / longest)), max(1, round(height * side / longest)))
        # Lanczos keeps fine detail.
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    # Whole numbers and no smoothing, so that the pixels of a tiny image stay visible as they are.
    times = side // longest
    return np.ascontiguousarray(pixels.repeat(times, axis=0).repeat(times, axis=1))


def contact_sheet(thumbnails: Sequence[ImageArray], columns: int = COLUMNS) -> Image.Image:
    """Thumbnails row by row, each in the middle of a square of :data:`THUMBNAIL` pixels.

    Args:
        thumbnails: ``[h, w, 3]`` uint8 each, at least one.
        columns: in a row.
    """
    columns = min(columns, len(thumbnails))
    # Division rounded up.
    rows = -(-len(thumbnails) // columns)
    step = THUMBNAIL + _GAP
    sheet = np.full((rows * step + _GAP, columns * step + _GAP, 3), _PAPER, dtype=np.uint8)
    for place, small in enumerate(thumbnails):
        row, column = divmod(place, columns)
        top = _GAP + row * step + (THUMBNAIL - small.shape[0]) // 2
        left = _GAP + column * step + (THUMBNAIL - small.shape[1]) // 2
        sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
    return Image.fromarray(sheet)
