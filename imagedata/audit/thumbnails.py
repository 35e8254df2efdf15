"""Small pictures of files for a page, in their own shape."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps

from contracts.errors import ImageError
from imagedata.decoding.decode import opened_image, read_image_bytes, to_rgb

SIDE = 144
"""Pixels of the longer side."""

_QUALITY = 80


def thumbnail_jpeg(path: Path, window: tuple[float, float] | None = None) -> bytes | None:
    """The bytes of a small JPEG of an image file; None where it cannot be decoded any more."""
    try:
        return thumbnail_of_bytes(read_image_bytes(path), window)
    except ImageError:
        return None


def thumbnail_of_bytes(data: bytes, window: tuple[float, float] | None = None) -> bytes:
    """The same of a file's bytes.

    Raises:
        ImageError: it cannot be decoded.
    """
    with opened_image(data) as image:
        if image.format == "JPEG":
            image.draft(image.mode, (SIDE, SIDE))
        image.load()
        rgb = to_rgb(ImageOps.exif_transpose(image), window)
    rgb.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()
