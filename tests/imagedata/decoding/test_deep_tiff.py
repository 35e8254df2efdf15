"""Colours of 16 bits: a window reaches their low bytes, or the file is refused."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from contracts.errors import ImageError
from imagedata.decoding.decode import DecodeSettings, decode_at_stored_size, decode_bytes

PIXELS = np.random.default_rng(0).integers(0, 4096, (16, 20, 3)).astype(np.uint16)
WINDOW = (100.0, 3000.0)


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed (extra: medical)")
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, photometric="rgb", **options)
    return out.getvalue()


def deep_png(pixels: np.ndarray) -> bytes:
    height, width = pixels.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = (
        b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(raw),
        b"IEND",
    )
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def test_a_window_is_applied_to_every_channel():
    shown = np.asarray(decode_at_stored_size(tiff(PIXELS), WINDOW)).astype(int)
    for y in range(16):
        for x in range(20):
            for c in range(3):
                share = (float(PIXELS[y, x, c]) - WINDOW[0]) / (WINDOW[1] - WINDOW[0])
                assert shown[y, x, c] == round(255 * min(max(share, 0.0), 1.0))


def test_without_a_window_the_range_is_that_of_16_bits():
    shown = np.asarray(decode_at_stored_size(tiff(PIXELS * 16), None)).astype(int)
    assert np.abs(shown - PIXELS.astype(int) * 16 / 257).max() <= 1


def test_eight_bits_are_left_alone():
    pixels = (PIXELS // 16).astype(np.uint8)
    assert (np.asarray(decode_at_stored_size(tiff(pixels), WINDOW)) == pixels).all()


def test_orientation_is_applied():
    plain = np.asarray(decode_at_stored_size(tiff(PIXELS), WINDOW))
    turned = np.asarray(decode_at_stored_size(tiff(PIXELS, extratags=[(274, "H", 1, 3, True)]), WINDOW))
    assert (turned == plain[::-1, ::-1]).all()


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_cut_off(keep):
    data = tiff(PIXELS)
    with pytest.raises(ImageError):
        decode_bytes(data[: int(len(data) * keep)], DecodeSettings(32, WINDOW))


def test_without_tifffile_the_reason_names_the_extra(monkeypatch):
    data = tiff(PIXELS)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(
        ImageError, match=r"tifffile is not installed\. Give: pip install 'outnumbered\[medical\]'"
    ):
        decode_bytes(data, DecodeSettings(32, WINDOW))


def test_deep_png_with_a_window_is_refused_and_without_is_read():
    with pytest.raises(ImageError, match="16-bit colour PNG, to which no window can be applied"):
        decode_bytes(deep_png(PIXELS), DecodeSettings(32, WINDOW))
    shown = np.asarray(decode_at_stored_size(deep_png(PIXELS * 16), None)).astype(int)
    assert np.abs(shown - PIXELS.astype(int) * 16 / 257).max() <= 1
    assert Image.open(io.BytesIO(deep_png(PIXELS))).mode == "RGB"
