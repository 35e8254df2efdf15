"""DICOM files to grey or RGB images, as a radiologist's screen shows them.

Needs ``pydicom``, which is part of the extra ``medical``; nothing is imported before a DICOM file is met.
Steps of the standard's grey-scale chain (DICOM PS3.3, C.11.1 and C.11.2): stored values → modality
values (rescale slope and intercept, or table) → VOI window or table, its first where there are several →
0…255; MONOCHROME1, in which low values are bright, is inverted.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from contracts.errors import ImageError

_PREAMBLE, _MAGIC = 128, b"DICM"


def is_dicom(data: bytes) -> bool:
    """Whether a file's bytes say that they are DICOM (PS3.10, 7.1)."""
    return data[_PREAMBLE : _PREAMBLE + len(_MAGIC)] == _MAGIC


def open_dicom(data: bytes, check_size: Callable[[int, int], None]) -> Image.Image:
    """Decode the first frame of a DICOM file.

    Args:
        data: the whole file.
        check_size: raises ImageError for a width and height that must not be decoded; called with what the
            header claims, before any pixel is.

    Returns:
        An 8-bit image of mode ``L`` or ``RGB``.

    Raises:
        ImageError: ``pydicom`` is missing; or the file has no pixels, is cut off, or is compressed in a way
            that no installed decoder knows.
    """
    try:
        import pydicom
        from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
    except ImportError as error:
        raise ImageError(
            "DICOM file, and pydicom 3 is not installed. Give: pip install 'outnumbered[medical]'"
        ) from error
    dataset = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in dataset:
        raise ImageError("DICOM file without an image in it.")
    check_size(int(dataset.Columns), int(dataset.Rows))
    photometric = str(dataset.PhotometricInterpretation)
    stored = pixel_array(dataset, index=0)
    if int(dataset.get("SamplesPerPixel", 1)) == 3:
        return Image.fromarray(_eight_bits(stored, 0.0, 2.0 ** int(dataset.BitsStored) - 1.0))
    if photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        raise ImageError(f"DICOM file with pixels of kind {photometric}, which has no defined grey values.")
    values = np.asarray(apply_voi_lut(apply_modality_lut(stored, dataset), dataset, index=0))
    low, high = _range_shown(dataset, np.asarray(values, dtype=np.float64))
    grey = _eight_bits(values, low, high)
    return Image.fromarray(255 - grey if photometric == "MONOCHROME1" else grey)


def _range_shown(dataset: Any, values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Values that become black and white: a window's full output range, else the image's own extremes.

    ``apply_voi_lut`` prefers a table, whose entries are unsigned numbers of the bits that its descriptor
    names. It gives a window the range of the stored bits, with the modality's slope and intercept applied.
    Where there is neither, its output is its input, which is commonly shown between its extremes.
    """
    if "VOILUTSequence" in dataset:
        return 0.0, 2.0 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1.0
    if "WindowCenter" in dataset:
        bits = int(dataset.BitsStored)
        signed = int(dataset.PixelRepresentation) == 1
        low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1.0) if signed else (0.0, 2.0**bits - 1.0)
        if "ModalityLUTSequence" in dataset:
            # A table's entries are unsigned, of the bits that its descriptor names.
            low, high = 0.0, 2.0 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1.0
        elif "RescaleSlope" in dataset:
            slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
            low, high = sorted((low * slope + intercept, high * slope + intercept))
        return low, high
    return float(values.min()), float(values.max())


def _eight_bits(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Values low…high as 0…255; an image of one value only is black."""
    scaled = (
        (np.asarray(values, dtype=np.float64) - low) / (high - low) if high > low else np.zeros(values.shape)
    )
    return np.rint(np.clip(scaled, 0.0, 1.0) * 255.0).astype(np.uint8)
