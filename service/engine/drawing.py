"""Pictures for the page: the image as browsers show it, and the evidence as a layer to lay over it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from contracts.rows import FloatArray
from imagedata.audit.thumbnails import thumbnail_of_bytes

_LONGEST = 1024  # pixels
_SHORTEST = 640  # pixels; tiny pictures are enlarged, so that they can be seen
_HEAT_SIDE = 224  # pixels; browsers stretch it over the picture
_FROM, _FULL = 0.5, 4.0
"""On the maps' own scale, on which 0 is a usual normal patch and 1 one that 99.5 % of them stay below."""

_STRONGEST = 235  # of 255, opacity where the evidence is highest
# Orange to red to dark: seen on grey and on light pictures, and told apart by brightness alone.
_RAMP = np.array([[255, 214, 64], [249, 142, 9], [214, 51, 44], [120, 14, 66]], dtype=np.float64)


@dataclass(frozen=True)
class Drawing:
    """An encoded picture and its media type."""

    data: bytes
    media_type: str


def picture_jpeg(image: Image.Image) -> Drawing:
    """An RGB picture as a JPEG of 640 to 1,024 pixels on its longer side."""
    longer = max(image.size)
    factor = min(1.0, _LONGEST / longer) if longer >= _SHORTEST else _SHORTEST / longer
    if factor != 1.0:
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return Drawing(buffer.getvalue(), "image/jpeg")


def small_jpeg(data: bytes, window: tuple[float, float] | None) -> Drawing:
    """The bytes of an image file as a small JPEG for lists.

    Raises:
        ImageError: it cannot be decoded.
    """
    return Drawing(thumbnail_of_bytes(data, window), "image/jpeg")


def heat_png(heat: FloatArray, document: Mapping[str, Any], member: str | None = None) -> Drawing:
    """A map as a transparent layer of colour.

    Args:
        heat: ``[h, w]`` map.
        document: the file's, whose ``maps`` say what is usual of each member.
        member: whose map it is; None for that of all together, which is on a scale of its own already.

    Returns:
        A PNG with alpha, square; nothing is covered where the evidence is as in half of the normal patches.
    """
    usual = document.get("maps", {})
    values = np.asarray(heat, dtype=np.float64)
    if member in usual:
        half, most = usual[member]["half"], usual[member]["most"]
        values = (values - half) / max(most - half, 1e-9)
    elif member is not None or not usual:  # files of earlier versions: by the map's own range
        half = float(np.median(values))
        values = _FROM + (_FULL - _FROM) * (values - half) / max(float(values.max()) - half, 1e-9)
    level = np.clip((values - _FROM) / (_FULL - _FROM), 0.0, 1.0)
    smooth = Image.fromarray(level.astype(np.float32)).resize(
        (_HEAT_SIDE, _HEAT_SIDE), Image.Resampling.BICUBIC
    )
    level = np.clip(np.asarray(smooth, dtype=np.float64), 0.0, 1.0)
    stops = np.linspace(0.0, 1.0, len(_RAMP))
    channels = [np.interp(level, stops, _RAMP[:, channel]) for channel in range(3)]
    # The square root shows weak evidence, too; the slider of the page weakens all of it.
    channels.append(_STRONGEST * np.sqrt(level))
    layer = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(layer, "RGBA").save(buffer, "PNG")
    return Drawing(buffer.getvalue(), "image/png")
