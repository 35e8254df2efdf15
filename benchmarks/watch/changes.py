"""What may happen to a camera or its files, done to real image files."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType

from PIL import Image, ImageFilter, JpegImagePlugin

Change = Callable[[bytes], bytes]


def _saved(image: Image.Image, like: Image.Image) -> bytes:
    """In the format of ``like``; a JPEG with its tables, so that saving alone changes as little as it can."""
    buffer = io.BytesIO()
    if isinstance(like, JpegImagePlugin.JpegImageFile):
        image.save(buffer, "JPEG", qtables=like.quantization, subsampling=JpegImagePlugin.get_sampling(like))
    else:
        image.save(buffer, like.format)
    return buffer.getvalue()


def _by(change: Callable[[Image.Image], Image.Image]) -> Change:
    """The same change of a file's picture, size and format kept."""

    def changed(data: bytes) -> bytes:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _saved(change(image), image)

    return changed


def _gamma(exponent: float) -> Callable[[Image.Image], Image.Image]:
    levels = [round(255.0 * (level / 255.0) ** exponent) for level in range(256)]
    return lambda image: image.point(levels * len(image.getbands()))


def _jpeg(quality: int) -> Change:
    def changed(data: bytes) -> bytes:
        with Image.open(io.BytesIO(data)) as image:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()

    return changed


CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "blur, radius 1 px": _by(lambda image: image.filter(ImageFilter.GaussianBlur(1.0))),
        "gamma 1.3": _by(_gamma(1.3)),
        "JPEG quality 60": _jpeg(60),
        "mirrored": _by(lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    }
)
"""Name → change of a file's bytes."""
