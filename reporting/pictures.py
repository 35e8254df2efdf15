"""Images and heat maps as small data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import matplotlib
import numpy as np
from PIL import Image, ImageFilter

from contracts.rows import FloatArray, ImageArray, MaskArray
from reporting.slides import outline

SIDE = 168
"""Pixels per side of a shown image: two beside each other fit a phone, and a gallery stays below 150 KB."""

_QUALITY = 82
# From black over purple to yellow, even in lightness: the order shows without colour vision, too.
_COLOUR_MAP = "inferno"


def svg_uri(svg: str) -> str:
    """An SVG document as the source of an image: its ids, styles and texts cannot touch the page."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')}"


def jpeg_uri(pixels: ImageArray) -> str:
    """``[S, S, 3]`` uint8 RGB pixels as a small JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(at_shown_size(pixels)).save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def at_shown_size(pixels: ImageArray) -> ImageArray:
    """``[S, S, 3]`` uint8 RGB pixels as ``[SIDE, SIDE, 3]``."""
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def outlined(pixels: ImageArray, mask: MaskArray) -> ImageArray:
    """A copy of a picture with a line around what a mask marks.

    Args:
        pixels: ``[H, W, 3]`` uint8 RGB.
        mask: ``[h, w]`` True inside; of any size, it is stretched to the picture's. The line runs outside of
            it and hides nothing of it.
    """
    size = (pixels.shape[1], pixels.shape[0])
    shown = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).resize(size, Image.Resampling.BOX)
    # Grown by the line's width.
    grown = np.asarray(shown.point(lambda value: 255 * (value > 0)).filter(ImageFilter.MaxFilter(5))) > 0
    copy = pixels.copy()
    outline(copy, grown)
    return copy


def heat_scale(maps: Iterable[FloatArray]) -> tuple[float, float]:
    """The values drawn not at all and brightest: median and 99.5 % percentile of all maps together."""
    values = np.concatenate([np.ravel(each) for each in maps])
    low, high = np.percentile(values, [50.0, 99.5])
    return float(low), float(high)


def overlay(pixels: ImageArray, heat: FloatArray, scale: tuple[float, float]) -> ImageArray:
    """Lay a map over a greyed image, the more opaque the higher the value.

    Args:
        pixels: ``[S, S, 3]`` uint8 RGB.
        heat: ``[g, g]`` values on the patch grid, stretched smoothly over the image.
        scale: value that is not drawn yet, and the one drawn brightest; one scale for all.

    Returns:
        ``[SIDE, SIDE, 3]`` uint8 RGB.
    """
    low, high = scale
    smooth = Image.fromarray(np.asarray(heat, np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    span = high - low if high > low else 1.0
    part = np.clip((np.asarray(smooth, np.float64) - low) / span, 0.0, 1.0)[:, :, None]
    grey = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    base = np.asarray(grey, np.float64)[:, :, None].repeat(3, axis=2)
    colour = 255.0 * np.asarray(matplotlib.colormaps[_COLOUR_MAP](part[:, :, 0]))[:, :, :3]
    # The root lets weak evidence show; 0.75 leaves the image visible below the strongest.
    opacity = 0.75 * np.sqrt(part)
    return np.rint((1.0 - opacity) * base + opacity * colour).astype(np.uint8)
