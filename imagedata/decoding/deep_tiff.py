"""Colour TIFF files of 16 bits a channel, whose low bytes Pillow drops before a window could be applied.

Needs ``tifffile``, which is part of the extra ``medical``; nothing is imported before such a file meets a
window.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from contracts.errors import ImageError

_BITS_PER_SAMPLE, _ORIENTATION = 258, 0x0112


def is_deep_colour(image: Image.Image) -> bool:
    """Whether an image that Pillow calls RGB is stored with 16 bits a channel."""
    if image.mode not in {"RGB", "RGBA", "RGBX"}:
        return False
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        bits = tags.get(_BITS_PER_SAMPLE, (8,))
        return bool(max(bits if isinstance(bits, tuple) else (bits,)) > 8)
    # Pillow's instruction how to read the pixels names the stored type, as in "RGB;16B".
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", []))


def deep_tiff(data: bytes, window: tuple[float, float]) -> Image.Image:
    """8-bit RGB of a deep colour TIFF, every channel windowed alike; the orientation stays to be applied.

    Args:
        data: the whole file.
        window: values that become 0 and 255.

    Raises:
        ImageError: ``tifffile`` is missing, or the first picture of the file has no three or four channels.
    """
    try:
        import tifffile
    except ImportError as error:
        raise ImageError(
            "16-bit colour TIFF with a window, and tifffile is not installed. Give: "
            "pip install 'outnumbered[medical]'"
        ) from error
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        stored: npt.NDArray[Any] = page.asarray()
        axes = str(page.axes)
        orientation = page.tags.get(_ORIENTATION)
    if axes == "SYX":  # a plane a channel
        stored = np.moveaxis(stored, 0, 2)
    if stored.ndim != 3 or stored.shape[2] not in {3, 4}:
        raise ImageError(f"16-bit TIFF with axes {axes} {list(stored.shape)}; three channels are needed.")
    low, high = window
    scaled = np.clip((stored[:, :, :3].astype(np.float64) - low) / (high - low), 0.0, 1.0) * 255.0
    shown = Image.fromarray(np.rint(scaled).astype(np.uint8))
    shown.getexif()[_ORIENTATION] = int(orientation.value) if orientation is not None else 1
    return shown
