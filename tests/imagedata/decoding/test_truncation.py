"""No cut of any format is taken for a whole picture, also where somebody put the end mark back."""

import io

import numpy as np
import pytest
from PIL import Image

from contracts.errors import ImageError
from imagedata.audit.facts import look_at_bytes
from imagedata.decoding.decode import DecodeSettings, decode_at_stored_size, decode_bytes
from tests.hostile import encode
from tests.hostile_corpus import photo

END = b"\xff\xd9"
FORMATS = {
    "jpeg": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "restarts": ("JPEG", {"restart_marker_blocks": 1}),
    "png": ("PNG", {}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "ppm": ("PPM", {}),
    "webp": ("WEBP", {}),
    "webp_lossless": ("WEBP", {"lossless": True}),
    "tiff": ("TIFF", {}),
    "tiff_deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff_lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "jpeg2000": ("JPEG2000", {}),
    "jpeg2000_tiles": ("JPEG2000", {"tile_size": (16, 16), "no_jp2": True}),
}


def pixels(data: bytes) -> np.ndarray | None:
    """What training and scoring see of a file at its own size; None where they refuse it."""
    try:
        return np.asarray(decode_at_stored_size(data, None))
    except ImageError:
        return None


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_cut_anywhere_is_refused_or_costs_no_pixel(name):
    file_format, options = FORMATS[name]
    whole = encode(photo(0, 24), file_format, **options)
    expected = pixels(whole)
    for kept in {*range(1, len(whole), 11), *range(max(1, len(whole) - 24), len(whole))}:
        found = pixels(whole[:kept])
        assert found is None or np.array_equal(found, expected), kept
        assert look_at_bytes(whole[:kept]).is_usable == (found is not None)
    assert look_at_bytes(whole[: len(whole) * 3 // 4]).rule in {"truncated", "broken"}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"subsampling": 0}, {"quality": 95}, {"restart_marker_blocks": 3}], ids=str
)
def test_an_end_mark_behind_a_cut_hides_no_more_than_the_last_block(mode, options):
    whole = encode(Image.fromarray(photo(1)).convert(mode), "JPEG", **options)
    expected = pixels(whole)
    start = whole.index(b"\xff\xda") + 16
    verdicts = []
    for kept in range(start, len(whole) - 2, 17):
        found = pixels(whole[:kept] + END)
        verdicts.append(found is None)
        if found is not None:
            # A block of 16 pixels, and two more by which smooth colours reach beyond it.
            differs = (found != expected).any(axis=2)
            assert not differs[:46].any(), kept
            assert not differs[:, :46].any(), kept
        assert look_at_bytes(whole[:kept] + END).is_usable == (found is not None)
    assert np.mean(verdicts) > 0.9


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_progressive_jpeg_that_lacks_scans_is_refused(mode):
    whole = encode(Image.fromarray(photo(1)).convert(mode), "JPEG", progressive=True)
    scans = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 4
    for at in scans[1:]:
        assert pixels(whole[:at] + END) is None
    # Within the last one, only the last bit of some coefficients is missing.
    found, expected = pixels(whole[: scans[-1] + 40] + END), pixels(whole)
    assert np.abs(found.astype(int) - expected).mean() < 6.0


def whole_files() -> dict[str, bytes]:
    """Whole JPEGs that a careless test would take for cut ones."""
    half_grey = photo(2)
    half_grey[20:] = 128
    grey = np.full((64, 64, 3), 128, np.uint8)
    files = {}
    for name, options in (
        ("plain", {"quality": 95}),
        ("progressive", {"progressive": True}),
        ("restarts", {"restart_marker_blocks": 2}),
    ):
        files[f"half_grey {name}"] = encode(half_grey, "JPEG", **options)
        files[f"grey {name}"] = encode(grey, "JPEG", **options)
        files[f"one grey {name}"] = encode(Image.fromarray(grey[:, :, 0]), "JPEG", **options)
        files[f"inverted {name}"] = encode(Image.fromarray(half_grey).convert("CMYK"), "JPEG", **options)
    files["more behind"] = encode(half_grey, "JPEG") + b"\xff\xda camera's own notes" * 9
    frames = [Image.fromarray(half_grey), Image.fromarray(photo(3))]
    buffer = io.BytesIO()
    frames[0].save(buffer, "MPO", save_all=True, append_images=frames[1:])
    files["several pictures"] = buffer.getvalue()
    return files


@pytest.mark.parametrize("name", sorted(whole_files()))
def test_whole_files_with_a_grey_corner_are_read(name):
    data = whole_files()[name]
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(pixels(data), np.asarray(image.convert("RGB")))
    assert look_at_bytes(data).is_usable


def test_scaled_decoding_sees_a_cut_too():
    whole = encode(photo(4, 256), "JPEG", quality=90)
    scaled = DecodeSettings(32, scaled=True)
    decode_bytes(whole, scaled)
    with pytest.raises(ImageError, match="truncated JPEG: the data ends before the picture does") as refusal:
        decode_bytes(whole[: len(whole) // 2] + END, scaled)
    assert refusal.value.rule == "truncated"
