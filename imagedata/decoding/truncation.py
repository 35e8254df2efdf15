"""Whether a picture that was decoded is all there, where the decoder does not ask.

Pillow refuses a file that stops, but takes two kinds of cut file for whole: a JPEG whose end mark was put
back behind the cut (by whoever repaired a download, or by a camera that lost power), whose missing part
libjpeg fills with one grey; and a JPEG 2000 cut where no picture data had begun.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from contracts.errors import ImageError

_JPEG_FORMATS = frozenset({"JPEG", "MPO"})
_GREY = frozenset({127, 128})
"""What libjpeg's blocks of nothing become in every pixel type: level 128, inverted 127."""

# In coded data FF stands before 00 or a restart mark; before anything else it begins a segment.
_SEGMENT = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_SOS, _EOI = 0xDA, 0xD9
_COEFFICIENTS = 64

# Codes that stand for something in any Huffman table, so that missing blocks would be filled with them; where
# a cut fell on a restart mark, the decoder looks for the next one, which may be any of the eight.
_CODES = bytes(np.random.default_rng(0).integers(0, 255, 2048, dtype=np.uint8))
_FILLER = b"".join([_CODES, *(bytes([0xFF, mark]) + _CODES for mark in range(0xD0, 0xD8))])


def require_whole(image: Image.Image, data: bytes) -> None:
    """Refuse a loaded picture whose file ends before the picture does.

    A cut within the last block of a JPEG, of 8 or 16 pixels per side, or within the last refinement of a
    progressive one is not seen: next to nothing is missing there.

    Args:
        image: loaded, still as its decoder made it.
        data: the whole file.

    Raises:
        ImageError: of the rule ``truncated``.
    """
    if image.format in _JPEG_FORMATS:
        is_cut = _lacks_scans(data) if image.info.get("progressive") else _is_cut_sequential(image, data)
    else:
        is_cut = image.format == "JPEG2000" and b"\xff\xd9" not in data
    if is_cut:
        raise ImageError(
            f"truncated {image.format}: the data ends before the picture does.", rule="truncated"
        )


class _Scan(NamedTuple):
    """One scan of a JPEG (ITU-T T.81, B.2.3)."""

    components: tuple[int, ...]
    first: int  # coefficient, Ss
    last: int  # Se
    low_bit: int  # Al: bits below it are still to come
    end: int  # where its coded data ends


def _is_cut_sequential(image: Image.Image, data: bytes) -> bool:
    """Whether blocks are missing: the last pixel is of the grey of nothing, and further codes would be used.

    A grey corner alone says little. A decoder that has all blocks passes over what else lies before the end
    mark; one that lacks some decodes it.
    """
    corner = image.getpixel((image.width - 1, image.height - 1))
    levels = corner if isinstance(corner, tuple) else (corner,)
    if not _GREY.issuperset(int(level or 0) for level in levels):
        return False
    end = max((scan.end for scan in _scans(data)), default=0)
    return end > 0 and not np.array_equal(_pixels(data), _pixels(data[:end] + _FILLER + data[end:]))


def _pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def _lacks_scans(data: bytes) -> bool:
    """Whether some coefficient of some component was never sent down to its last bit."""
    low_bits: dict[int, list[int]] = {}
    for scan in _scans(data):
        for component in scan.components:
            mine = low_bits.setdefault(component, [-1] * _COEFFICIENTS)
            mine[scan.first : scan.last + 1] = [scan.low_bit] * (scan.last + 1 - scan.first)
    return any(bit != 0 for mine in low_bits.values() for bit in mine)


def _scans(data: bytes) -> Iterator[_Scan]:
    """Scans of the first picture in a file; ends at whatever is no segment, which decoding has judged."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        code = data[at + 1]
        if code == 0xFF:  # padding
            at += 1
            continue
        if code == _EOI:
            return
        body = at + 4
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if code != _SOS:
            continue
        count = data[body] if body < len(data) else 0
        if at > len(data) or at != body + 4 + 2 * count:
            return
        behind = _SEGMENT.search(data, at)
        end = behind.start() if behind else len(data)
        first, last, bits = data[at - 3 : at]
        components = tuple(data[body + 1 : body + 1 + 2 * count : 2])
        yield _Scan(components, first, min(last, _COEFFICIENTS - 1), bits & 15, end)
        at = end
