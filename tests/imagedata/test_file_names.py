"""Images, junk, and images under another name: one rule for folders and archives."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagedata.decoding.formats import IMAGE_SUFFIXES, PILLOW_FORMATS, looks_like_image
from imagedata.file_names import (
    NO_ENDING,
    ending_of,
    is_image_by_content,
    is_image_name,
    is_junk,
    is_junk_path,
    of_other_endings,
)

JUNK = (
    "__MACOSX",
    ".ipynb_checkpoints",
    ".git",
    "@eaDir",
    "Thumbs.db",
    ".DS_Store",
    "._a.jpg",
    "desktop.ini",
    "Desktop.ini",
    ".hidden",
)
NO_JUNK = (".", "..", "good", "a.jpg", "thumbs.jpg", "__init__", "macosx")


def encoded(file_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(buffer, file_format)
    return buffer.getvalue()


@pytest.mark.parametrize("name", JUNK)
def test_junk(name: str) -> None:
    assert is_junk(name)
    assert is_junk_path(f"set/{name}/a.png")
    assert is_junk_path(f"set\\{name}\\a.png")


@pytest.mark.parametrize("name", NO_JUNK)
def test_no_junk(name: str) -> None:
    assert not is_junk(name)
    assert not is_junk_path(f"./{name}/a.png")


def test_endings_are_looked_for_in_either_case() -> None:
    assert all(is_image_name(name) for name in ("a.PNG", "a.heic", "a.DCM", "a.jp2", "a.b.tga"))
    assert not any(
        is_image_name(name) for name in ("a.PNG.bak", "a", "png", "a.eps", "a.pdf", "a.wmf", "a.psd")
    )
    assert (".avif" in IMAGE_SUFFIXES) == ("AVIF" in PILLOW_FORMATS)


@pytest.mark.parametrize(
    "file_format", [name for name in PILLOW_FORMATS if name not in {"TGA", "PCX", "DIB"}]
)
def test_accepted_formats_are_known_by_their_first_bytes(tmp_path: Path, file_format: str) -> None:
    if file_format not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {file_format}")
    (tmp_path / "image").write_bytes(encoded(file_format))
    assert is_image_by_content(tmp_path / "image")


@pytest.mark.parametrize(
    "first",
    [b"", b"P1 is the plan", b"BMW 320i, 1998", b"%PDF-1.7", b"PK\3\4", b'{"a": 1}', b"RIFF\0\0\0\0WAVE"],
)
def test_other_files_do_not_look_like_images(first: bytes) -> None:
    assert not looks_like_image(first)


@pytest.mark.parametrize(
    "first",
    [
        b"\0\0\0\x1cftypheic\0\0\0\0mif1heic",
        b"\0" * 128 + b"DICM",
        b"8BPS\0\1",
        b"\0\0\0\x0cJXL \r\n\x87\n",
        b"II*\0\x10\0\0\0CR\2\0",
    ],
)
def test_images_that_only_others_read_look_like_images(first: bytes) -> None:
    assert looks_like_image(first)


def test_folders_and_missing_files_are_no_images(tmp_path: Path) -> None:
    assert not is_image_by_content(tmp_path)
    assert not is_image_by_content(tmp_path / "missing")


def test_endings_to_count_by() -> None:
    assert [ending_of(name) for name in ("a.PNG.bak", "a", "a.JXL", "1.2.840.10008")] == [
        ".bak",
        NO_ENDING,
        ".jxl",
        ".#",
    ]
    assert of_other_endings({".bak": 2, NO_ENDING: 1}) == "3 images end in .bak (2) or no ending (1)"
