"""Masks: of anomalies, read for scores of localisation and never for training; of the region of interest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from contracts.errors import ImageError, UsageError
from contracts.rows import MaskArray
from imagedata.decoding.decode import decode_at_stored_size, read_image_bytes
from imagedata.decoding.region import Box, Region


def read_mask(path: Path) -> MaskArray:
    """``[H, W]`` True where a mask marks the anomaly (or the region), at the size that it is stored in.

    A pixel counts from half of the mask's own maximum on: masks are written with 255 or with 1 for what
    is marked, and those saved with losses hold values between.

    Raises:
        ImageError: it cannot be decoded, or marks nothing.
    """
    grey = np.asarray(decode_at_stored_size(read_image_bytes(path), None).convert("L"))
    if not grey.any():
        raise ImageError("the mask marks nothing.")
    return np.asarray(grey >= grey.max() / 2.0)


def read_region(roi: Box | str | None, beside: Path | None = None) -> Region | None:
    """The region of interest that a data set names.

    Args:
        roi: a rectangle in shares of width and height, or the path of a mask; None for no region.
        beside: folder that the path may also be relative to, such as that of the spec which names it.

    Raises:
        UsageError: the rectangle is empty or out of order; the mask is missing, no image, or marks nothing.
    """
    if roi is None:
        return None
    if not isinstance(roi, str):
        return Region(roi)
    places = [Path(roi), *([beside / roi] if beside is not None else [])]
    path = next((each for each in places if each.is_file()), None)
    if path is None:
        looked_in = " or ".join(dict.fromkeys(str(each) for each in places))
        raise UsageError(
            f"roi={roi}: there is no file {looked_in}. Name a mask image, white where pictures are looked at,"
            " or a rectangle such as roi=.1,.1,.9,.9."
        )
    try:
        return Region.of_mask(read_mask(path))
    except ImageError as error:
        raise UsageError(
            f"roi={roi}: {error} Paint white what is to be looked at, and all else black."
        ) from error
