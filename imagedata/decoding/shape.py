"""From a picture of any shape to the square that networks take: squeezed, padded or cropped."""

from __future__ import annotations

from typing import Literal, get_args

from PIL import Image

Fit = Literal["squeeze", "pad", "crop"]
"""``squeeze``: both sides are stretched to the square, so that shapes change. ``pad``: the longer side fills
the square, and grey bars fill the rest. ``crop``: a square from the middle, as wide as the shorter side."""

FITS: tuple[Fit, ...] = get_args(Fit)

MIN_SIDE = 8
"""Smallest width and height, in pixels, that can carry evidence after resizing."""

GREY = 128
"""Level of all that is no part of a picture, where nothing may be seen. Backbones scale pixels so that about
this level becomes 0, which is also what their convolutions pad with: a border of it says the least."""


def in_square(
    image: Image.Image,
    size: int,
    fit: Fit,
    nothing: int = GREY,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    """Bring a picture to ``size`` x ``size`` pixels.

    The exported graph has a twin of this, :func:`export.graph.resized`; both round sides down to whole pixels
    in the same way. A square picture becomes the same by every ``fit``.

    Args:
        image: of any mode that Pillow resamples.
        size: side of the square, in pixels.
        fit: what becomes of a picture that is no square.
        nothing: level of the bars.
        resample: by default antialiased bilinear, as pictures are resized for training and scoring.
    """
    width, height = image.size
    if fit == "pad" and width != height:
        inner = padded_sides(width, height, size)
        canvas = Image.new(image.mode, (size, size), (nothing,) * len(image.getbands()))
        resized = image.resize(inner, resample)
        canvas.paste(resized, ((size - inner[0]) // 2, (size - inner[1]) // 2))
        return canvas
    if fit == "crop" and width != height:
        # Cut before it is resized: the filter would mix pixels that were cut off into the border.
        image = image.crop(middle(width, height))
    return image.resize((size, size), resample)


def padded_sides(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side fills the square, rounded; 1 at least."""
    longer = max(width, height)
    return max(1, (2 * width * size + longer) // (2 * longer)), max(
        1, (2 * height * size + longer) // (2 * longer)
    )


def middle(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the largest square in the middle of a picture."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def shape_sentence(fit: Fit) -> str:
    """What becomes of pictures that are no squares, for people."""
    return {
        "squeeze": "Pictures that are no squares are squeezed into one.",
        "pad": "Pictures keep their shape: grey bars fill them up to a square.",
        "crop": "Pictures keep their shape: of those that are no squares the middle is seen.",
    }[fit]
