"""PNG files whose bytes are the same on every machine."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

_MOST_STORED = 65535  # bytes a stored block of deflate holds (RFC 1951, section 3.2.4)


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return a PNG file of 8-bit grey or RGB pixels, stored and not compressed.

    Seeded draws order images by the SHA-256 of their files, so the file of given pixels must be the same
    everywhere. A compressor's output depends on the build of zlib; stored blocks do not. Small images
    lose nothing, since a file takes a block of the disk anyway.

    Args:
        pixels: ``[H, W]`` grey or ``[H, W, 3]`` RGB.
    """
    height, width = pixels.shape[:2]
    colour_type = 2 if pixels.ndim == 3 else 0
    rows = np.zeros((height, 1 + pixels[0].size), dtype=np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    blocks = [raw[start : start + _MOST_STORED] for start in range(0, len(raw), _MOST_STORED)]
    stored = b"".join(
        struct.pack("<BHH", position == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block
        for position, block in enumerate(blocks)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    data = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(raw))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
