"""Which formats are read, that cut files of each are refused, and which are never handed to Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from contracts.errors import ImageError
from imagedata.decoding.decode import DecodeSettings, decode_bytes
from imagedata.decoding.formats import IMAGE_SUFFIXES, PILLOW_FORMATS, formats_for

SETTINGS = DecodeSettings(32)


def picture() -> Image.Image:
    """Colours that change everywhere, so that every format has data up to its end."""
    noise = np.random.default_rng(0).integers(0, 60, (64, 80, 3))
    return Image.fromarray((np.mgrid[:64, :80].sum(0)[:, :, None] + noise).astype(np.uint8))


def encoded(file_format: str, **settings: object) -> bytes:
    if file_format == "HEIF":
        pytest.importorskip("pillow_heif", reason="the extra heic is not installed").register_heif_opener()
    elif file_format not in PILLOW_FORMATS:
        pytest.skip(f"this Pillow does not read {file_format}")
    buffer = io.BytesIO()
    try:
        picture().save(buffer, file_format, **settings)
    except (OSError, KeyError) as error:
        pytest.skip(f"this Pillow does not write {file_format}: {error}")
    return buffer.getvalue()


@pytest.mark.parametrize("file_format", ["AVIF", "JPEG2000", "QOI", "PCX", "TGA", "HEIF"])
def test_a_format_is_read_whole_or_not_at_all(file_format: str) -> None:
    data = encoded(file_format)
    expected = np.asarray(picture().resize((32, 32), Image.Resampling.BILINEAR), dtype=np.int64)
    assert np.abs(decode_bytes(data, SETTINGS).pixels - expected).mean() < 12.0
    for share in np.linspace(0.02, 0.99, 25):
        with pytest.raises(ImageError):
            decode_bytes(data[: int(len(data) * share)], SETTINGS)


@pytest.mark.parametrize("file_format", ["AVIF", "HEIF", "JPEG2000"])
def test_the_header_alone_refuses_what_is_too_small(file_format: str) -> None:
    encoded(file_format)  # skips where the codec is missing
    buffer = io.BytesIO()
    picture().resize((4, 40)).save(buffer, file_format)
    with pytest.raises(ImageError, match="at least 8x8 are needed"):
        decode_bytes(buffer.getvalue(), SETTINGS)


@pytest.mark.parametrize("file_format", ["AVIF", "GIF"])
def test_of_several_frames_the_first_is_the_image(file_format: str) -> None:
    encoded(file_format)
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("white", "black")]
    buffer = io.BytesIO()
    frames[0].save(buffer, file_format, save_all=True, append_images=frames[1:], duration=100)
    assert decode_bytes(buffer.getvalue(), SETTINGS).pixels.mean() > 250


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n",
        b"#define w_width 16\n#define w_height 16\nstatic char w_bits[] = {" + b"0x00," * 32 + b"};",
        b"%PDF-1.7\n",
    ],
    ids=["EPS", "XBM", "PDF"],
)
def test_programs_and_text_are_no_images_whatever_their_names(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode_bytes(data, SETTINGS)
    assert "EPS" not in formats_for(data)


def test_no_ending_of_a_refused_format_is_looked_for() -> None:
    assert not IMAGE_SUFFIXES & {
        ".eps",
        ".ps",
        ".pdf",
        ".wmf",
        ".emf",
        ".mpg",
        ".flc",
        ".h5",
        ".fits",
        ".vst",
    }


def test_heic_without_its_reader_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(ImageError, match=r"HEIC file.*outnumbered\[heic\]"):
        decode_bytes(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic" + b"\0" * 200, SETTINGS)
