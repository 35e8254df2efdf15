"""Facts about a picture that cost microseconds once it is decoded: size, light, sharpness, compression.

They say whether the camera, its light or the way files are saved has changed, whatever is in the pictures.
Training and scoring take them from the same pixels, by this function alone.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from contracts.rows import FloatArray
from imagedata.decoding.decode import DecodedImage

TITLES = MappingProxyType(
    {
        "megapixels": "size in megapixels",
        "aspect": "width by height",
        "bytes_per_pixel": "file size in bytes per pixel",
        "brightness": "brightness",
        "contrast": "contrast",
        "sharpness": "sharpness",
        "left_right": "left half brighter than right half",
        "top_bottom": "upper half brighter than lower half",
        "warmth": "red above blue",
        "clipped": "share of black and white pixels",
    }
)
"""Fact → what it is, for people; in the order of :func:`picture_facts`."""

_SIDE = 48
"""Means are taken of about so many columns and rows: a thousand or two pixels are enough for them."""

_DARK, _LIGHT = 4, 251
"""Grey levels up to which, and from which on, a pixel counts as black or white."""


def picture_facts(image: DecodedImage, n_bytes: int) -> FloatArray:
    """``[F]`` float32, one number for each of :data:`TITLES`.

    Args:
        image: as decoded; its pixels are at working size.
        n_bytes: size of the file.

    Returns:
        Size as stored; brightness, contrast (a standard deviation) and differences of means in grey levels
        0…255; sharpness as the mean change of steps between neighbours over the mean step.
    """
    pixels = image.pixels
    step = max(1, pixels.shape[0] // _SIDE)
    few = pixels[::step, ::step]
    # Colour by colour: NumPy is slow along an axis of three.
    red, green, blue = (few[..., colour].astype(np.float32) for colour in range(3))
    grey = (red + green + blue) / np.float32(3.0)
    brightness = float(grey.mean())
    spread = grey - np.float32(brightness)
    contrast = float(np.sqrt(np.vdot(spread, spread) / spread.size))
    down, across = (side // 2 for side in grey.shape)
    # At full resolution, in a few rows and columns.
    wide = 2 * step
    lines = (pixels[::wide, :, 1].astype(np.int16), pixels[:, ::wide, 1].astype(np.int16).T)
    stored = image.width * image.height
    return np.array(
        [
            stored / 1e6,
            image.width / image.height,
            n_bytes / stored,
            brightness,
            contrast,
            sum(map(_sharpness, lines)) / 2.0,
            grey[:, :across].mean() - grey[:, across:].mean(),
            grey[:down].mean() - grey[down:].mean(),
            red.mean() - blue.mean(),
            np.count_nonzero((grey <= _DARK) | (grey >= _LIGHT)) / grey.size,
        ],
        dtype=np.float32,
    )


def _sharpness(lines: npt.NDArray[np.int16]) -> float:
    """How much steps between neighbours change from one to the next, over the steps themselves.

    Blur and compression take the finest detail first. Steps have it in common with shapes, their changes do
    not; the ratio depends less on what is in a picture than either.
    """
    steps = lines[:, 1:] - lines[:, :-1]
    changes = steps[:, 1:] - steps[:, :-1]
    mean_step = float(np.abs(steps).sum(dtype=np.int64)) / steps.size
    return float(np.abs(changes).sum(dtype=np.int64)) / changes.size / (mean_step + 0.25)
