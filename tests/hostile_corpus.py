"""A data set that is hostile in every way that ``check`` knows by name, written by one function.

Also a script: ``python -m tests.hostile_corpus FOLDER`` writes it for a look by hand.
"""

from __future__ import annotations

import io
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hostile import encode, grey16_tiff_big_endian, png_bomb, truncated
from tests.pictures import write_pictures

HOSTILE_NAMES = (
    "<img src=x onerror=alert(1)>.png",
    "\x1b[31mred\x1b[0m\x07.png",
    "line\nend\ttab.png",
    "\u202egnp.exe.png",
    "[bold red]markup[link=x].png",
    "\"quoted' & {{ 7*7 }}.png",
    "=cmd|' \u200b.png",
)


@dataclass(frozen=True)
class Corpus:
    """What was written.

    Attributes:
        folder: ``train/{sound,cracked}`` and ``test/{sound,cracked}``.
        rule_of: path → the rule that must find it.
        good: paths of plain good files, which no rule of a refused file may find.
    """

    folder: Path
    rule_of: dict[str, str]
    good: frozenset[str]


def photo(seed: int, side: int = 64) -> np.ndarray:
    """``[side, side, 3]`` uint8: something that no other seed looks like, with edges."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
    return np.clip(smooth + rng.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


def cut_jpeg(progressive: bool = False) -> bytes:
    """A JPEG that ends in the middle of its picture, but with its end mark put back."""
    whole = encode(photo(1, 128), "JPEG", quality=95, progressive=progressive)
    return whole[: len(whole) // 2] + b"\xff\xd9"


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(photo(2), "JPEG", exif=exif.tobytes())


def animated() -> bytes:
    frames = [Image.fromarray(photo(seed)) for seed in (3, 4)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def many_pages() -> bytes:
    pages = [Image.fromarray(photo(seed)) for seed in (5, 6)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    return buffer.getvalue()


def odd_files() -> dict[str, tuple[bytes, str]]:
    """File name → content and the rule that must find it."""
    y, x = np.mgrid[0:64, 0:64]
    slope = np.repeat((x + y)[:, :, None] * 2, 3, axis=2).astype(np.uint8)
    half_grey = photo(7)
    half_grey[40:] = 128
    return {
        "zero.png": (b"", "empty"),
        "text.jpg": (b"no image at all\n" * 50, "not_an_image"),
        "page.png": (b"<!DOCTYPE html><script>alert(1)</script>", "not_an_image"),
        "bomb.png": (png_bomb(), "bomb"),
        "pixel.png": (encode(photo(8)[:2, :2], "PNG"), "too_small"),
        **{f"half.{name.lower()}": (truncated(name), "truncated") for name in ("PNG", "BMP", "GIF", "WEBP")},
        "half.jpg": (truncated("JPEG"), "truncated"),
        "half_progressive.jpg": (encode(photo(9, 128), "JPEG", progressive=True)[:2500], "truncated"),
        "no_end.jpg": (encode(photo(10), "JPEG")[:-2], "truncated"),
        "no_end.png": (encode(photo(11), "PNG")[:-12], "lacks_end"),
        "grey_below.jpg": (encode(half_grey, "JPEG", quality=95), "grey_below"),
        "really_a.jpg": (encode(photo(12), "PNG"), "wrong_extension"),
        "moving.gif": (animated(), "several_frames"),
        "pages.tiff": (many_pages(), "several_frames"),
        "print.jpg": (encode(Image.fromarray(photo(13)).convert("CMYK"), "JPEG"), "cmyk"),
        "deep.tif": (grey16_tiff_big_endian(photo(14)[:, :, 0].astype(np.uint16) * 200), "deep"),
        "turned.jpg": (oriented(6), "orientation"),
        "odd_turn.jpg": (oriented(42), "odd_orientation"),
        "tiny.png": (encode(photo(15, 16), "PNG"), "tiny"),
        "huge.png": (encode(np.kron(photo(16), np.ones((8, 8, 1), np.uint8)), "PNG"), "outlying_size"),
        "flat.png": (encode(np.full((64, 64, 3), 200, np.uint8), "PNG"), "near_constant"),
        "slope.png": (encode(slope, "PNG"), "very_blurred"),
        "night.png": (encode(photo(17) // 8, "PNG"), "very_dark"),
    }


def write_corpus(folder: Path, good: int = 30) -> Corpus:
    """Write good files of two classes and, among them, everything that is wrong in some way."""
    for place, seed in (("train", 0), ("test", 100)):
        write_pictures(folder / place / "sound", good, odd=False, seed=seed)
        write_pictures(folder / place / "cracked", good // 3, odd=True, seed=seed)
    kept = frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rule_of: dict[str, str] = {}
    for name, (content, rule) in odd_files().items():
        (folder / "train" / "sound" / name).write_bytes(content)
        rule_of[f"train/sound/{name}"] = rule
    for number, name in enumerate(HOSTILE_NAMES):
        (folder / "test" / "cracked" / name).write_bytes(encode(photo(50 + number, 16), "PNG"))
        rule_of[f"test/cracked/{name}"] = "tiny"
    (folder / "train" / "sound" / "nowhere.jpg").symlink_to("does-not-exist.jpg")
    rule_of["train/sound/nowhere.jpg"] = "unreadable"
    (folder / "train" / "sound" / "loop").symlink_to(folder, target_is_directory=True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "train" / "sound" / "pipe.png")
        rule_of["train/sound/pipe.png"] = "unreadable"
    return Corpus(folder, rule_of, kept)


def mutated(content: bytes, seed: int) -> bytes:
    """A file with a few bytes changed, cut, doubled or swapped, as fuzzers do it."""
    rng = random.Random(seed)
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at, length = rng.randrange(len(data) + 1), rng.randint(1, 40)
        match rng.randrange(5):
            case 0:
                data[at : at + length] = rng.randbytes(length)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data = data[: max(1, at)]
            case 4 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


if __name__ == "__main__":
    print(write_corpus(Path(sys.argv[1])).rule_of)
