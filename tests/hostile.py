"""Folders of images that are good, odd and broken, each with what the decoder must say of it."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    """``[H, W, 3]`` uint8 with a different slope in each channel, so that no flip or swap goes unseen."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [x * 255 // (width - 1), y * 255 // (height - 1), (x + 2 * y) * 255 // (width + 2 * height - 3)],
        axis=-1,
    ).astype(np.uint8)


def noise(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    """``[H, W, 3]`` uint8 noise around a level that depends on the seed."""
    rng = np.random.default_rng(seed)
    level = int(rng.integers(20, 236))
    return np.clip(level + rng.integers(-20, 21, (height, width, 3)), 0, 255).astype(np.uint8)


def encode(pixels: np.ndarray | Image.Image, file_format: str, **options: object) -> bytes:
    """The bytes of an image file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk with a right checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bomb(side: int = 50_000) -> bytes:
    """Some eighty bytes that claim ``side`` x ``side`` pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(bytes(100)))
        + png_chunk(b"IEND", b"")
    )


def grey16_tiff_big_endian(values: np.ndarray) -> bytes:
    """A one-strip TIFF of ``[H, W]`` uint16 in Motorola byte order, which Pillow cannot write itself."""
    height, width = values.shape
    data = values.astype(">u2").tobytes()
    tags = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 0),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, len(data)),
    ]
    strip_at = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, kind, number in tags:
        value = strip_at if tag == 273 else number
        packed = struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value)
        entries += struct.pack(">HHI", tag, kind, 1) + packed
    return b"MM\0*" + struct.pack(">IH", 8, len(tags)) + entries + struct.pack(">I", 0) + data


def truncated(file_format: str) -> bytes:
    """The first half of a file of noise, so that no format can squeeze all of it into that half."""
    whole = encode(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8), file_format)
    return whole[: len(whole) // 2]


def broken_files() -> dict[str, bytes]:
    """File name → content that must be refused."""
    files = {f"half.{name.lower()}": truncated(name) for name in FORMATS if name != "JPEG"}
    files |= {
        "half.jpg": truncated("JPEG"),
        "text.jpg": b"this is no image, whatever its name says\n" * 20,
        "empty.png": b"",
        "pixel.png": encode(gradient(8, 8)[:1, :1], "PNG"),
        "bomb.png": png_bomb(),
        "html.jpeg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    }
    return files


def good_files() -> dict[str, bytes]:
    """File name → content of every kind that must be read."""
    pixels = gradient()
    suffix = {"JPEG": "jpg", "TIFF": "TIF"}
    files = {f"good.{suffix.get(name, name.lower())}": encode(pixels, name) for name in FORMATS}
    picture = Image.fromarray(pixels)
    files |= {
        "cmyk.jpg": encode(picture.convert("CMYK"), "JPEG"),
        "grey.png": encode(picture.convert("L"), "PNG"),
        "bilevel.png": encode(picture.convert("1"), "PNG"),
        "alpha.png": encode(picture.convert("RGBA"), "PNG"),
        "palette.png": encode(picture.convert("P"), "PNG", transparency=0),
        "deep.png": encode(np.arange(40 * 60, dtype=np.uint16).reshape(40, 60) * 20, "PNG"),
    }
    return files


def write_hostile_folder(folder: Path) -> dict[str, bool]:
    """Write good and broken files and things that are no files, in subfolders.

    Returns:
        Path below ``folder`` → whether it must be scored.
    """
    expected: dict[str, bool] = {}

    def put(place: str, files: dict[str, bytes], readable: bool) -> None:
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / place / name).write_bytes(content)
            expected[f"{place}/{name}"] = readable

    put("good", good_files(), True)
    put("broken/deeper", broken_files(), False)
    (folder / "notes.txt").write_text("no image ending, so never looked at")
    (folder / "broken" / "nowhere.jpg").symlink_to("does-not-exist.jpg")
    expected["broken/nowhere.jpg"] = False
    (folder / "good" / "loop").symlink_to(folder, target_is_directory=True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "broken" / "pipe.png")
        expected["broken/pipe.png"] = False
    return expected


def write_noise_images(
    folder: Path, count: int, name: Callable[[int], str] = "{:04d}.png".format
) -> list[Path]:
    """Write ``count`` small readable PNG files of different brightness."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name(index) for index in range(count)]
    for index, path in enumerate(paths):
        path.write_bytes(encode(noise(index, 16, 16), "PNG"))
    return paths
