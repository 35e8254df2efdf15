"""Masks that say where an anomaly is; read for scores of localisation only, never for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from contracts.errors import ImageError
from contracts.rows import MaskArray
from imagedata.decoding.decode import decode_at_stored_size, read_image_bytes


def read_mask(path: Path) -> MaskArray:
    """``[H, W]`` True where a mask marks the anomaly, at the size that it is stored in.

    A pixel counts from half of the mask's own maximum on: masks are written with 255 or with 1 for the
    anomaly, and those saved with losses hold values between.

    Raises:
        ImageError: it cannot be decoded, or marks nothing.
    """
    grey = np.asarray(decode_at_stored_size(read_image_bytes(path), None).convert("L"))
    if not grey.any():
        raise ImageError("the mask marks nothing.")
    return np.asarray(grey >= grey.max() / 2.0)
