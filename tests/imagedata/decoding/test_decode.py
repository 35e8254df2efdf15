"""The one way from files to pixels: golden pixels, every pixel type, and files that must be refused."""

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from contracts.errors import ImageError, UsageError
from imagedata.decoding.decode import MAX_FILE_BYTES, DecodeSettings, decode_bytes, decode_file
from tests import hostile

AT_16 = DecodeSettings(16)
SCALED_16 = DecodeSettings(16, scaled=True)


def square(size: int = 16) -> np.ndarray:
    return hostile.gradient(size, size)


def slow_bilinear(pixels: np.ndarray, size: int) -> np.ndarray:
    """Antialiased bilinear resize, written out: a triangle as wide as the output pixel, normalised."""

    def weights(length: int) -> np.ndarray:
        scale = length / size
        reach = max(scale, 1.0)
        centres = (np.arange(size) + 0.5) * scale
        distance = np.abs(np.arange(length)[None, :] + 0.5 - centres[:, None]) / reach
        triangle = np.clip(1.0 - distance, 0.0, None)
        return triangle / triangle.sum(axis=1, keepdims=True)

    height, width, _ = pixels.shape
    return np.einsum("yh,xw,hwc->yxc", weights(height), weights(width), pixels.astype(np.float64))


@pytest.mark.parametrize(("height", "width", "size"), [(40, 60, 16), (37, 211, 24), (9, 9, 32), (16, 16, 16)])
def test_resize_is_antialiased_bilinear(height: int, width: int, size: int) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    decoded = decode_bytes(hostile.encode(pixels, "PNG"), DecodeSettings(size)).pixels
    assert np.abs(decoded.astype(float) - slow_bilinear(pixels, size)).max() <= 1.0


def test_golden_pixels() -> None:
    # Held as numbers: training and scoring on different machines must mean the same by these pixels.
    decoded = decode_bytes(hostile.encode(hostile.gradient(24, 40), "PNG"), DecodeSettings(4))
    assert decoded.pixels[..., 0].tolist() == [[35, 94, 160, 219]] * 4
    assert decoded.pixels[:, 0, 1].tolist() == [34, 94, 160, 220]
    assert decoded.pixels.dtype == np.uint8
    assert (decoded.width, decoded.height, decoded.mode) == (40, 24, "RGB")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    "settings", [DecodeSettings(24), DecodeSettings(24, fit="pad"), DecodeSettings(24, fit="crop")]
)
def test_grey_files_give_the_pixels_of_their_rgb_twins(kind: str, settings: DecodeSettings) -> None:
    grey = np.random.default_rng(4).integers(0, 256, (57, 90), dtype=np.uint8)
    stored = hostile.encode(grey, kind)
    with Image.open(BytesIO(stored)) as image:
        assert image.mode == "L"
        twin = hostile.encode(np.asarray(image.convert("RGB")), "PNG")
    decoded = decode_bytes(stored, settings)
    np.testing.assert_array_equal(decoded.pixels, decode_bytes(twin, settings).pixels)
    assert decoded.mode == "L"


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a.transpose(1, 0, 2), 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_orientation_is_applied(orientation: int, upright) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_bytes(hostile.encode(square(), "PNG", exif=exif), AT_16)
    np.testing.assert_array_equal(decoded.pixels, upright(square()))


def test_sizes_are_those_stored_before_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_bytes(hostile.encode(hostile.gradient(20, 30), "JPEG", exif=exif), AT_16)
    assert (decoded.width, decoded.height) == (30, 20)


@pytest.mark.parametrize("write", [lambda a: hostile.encode(a, "PNG"), hostile.grey16_tiff_big_endian])
def test_window_maps_12_bit_values_to_the_full_range(write) -> None:
    values = (np.arange(256, dtype=np.uint16).reshape(16, 16) * 16).astype(np.uint16)  # 0…4080
    decoded = decode_bytes(write(values), DecodeSettings(16, (0.0, 4095.0)))
    expected = np.rint(values / 4095.0 * 255.0).astype(np.uint8)
    for channel in range(3):
        np.testing.assert_array_equal(decoded.pixels[..., channel], expected)


def test_values_outside_the_window_are_clipped_not_wrapped() -> None:
    values = np.array([[0, 999], [1000, 2000], [2001, 65535]], dtype=np.uint16).repeat(16, 0).repeat(24, 1)
    decoded = decode_bytes(hostile.encode(values, "PNG"), DecodeSettings(48, (1000.0, 2000.0)))
    assert decoded.pixels[8, 12, 0] == 0
    assert decoded.pixels[24, 12, 0] == 0
    assert decoded.pixels[24, 36, 0] == 255
    assert decoded.pixels[40, 36, 0] == 255


def test_16_bits_without_window_use_the_full_range() -> None:
    values = np.full((16, 16), 0x8000, dtype=np.uint16)
    assert decode_bytes(hostile.encode(values, "PNG"), AT_16).pixels[0, 0].tolist() == [128] * 3


def test_float_images_need_a_window() -> None:
    grey = np.linspace(0.0, 1.0, 256, dtype=np.float32).reshape(16, 16)
    data = hostile.encode(Image.fromarray(grey), "TIFF")
    with pytest.raises(ImageError, match=r"window=\[low,high\]"):
        decode_bytes(data, AT_16)
    assert decode_bytes(data, DecodeSettings(16, (0.0, 1.0))).pixels.max() == 255


def test_float_images_with_nan_are_refused() -> None:
    grey = np.full((16, 16), np.nan, dtype=np.float32)
    with pytest.raises(ImageError, match="not finite"):
        decode_bytes(hostile.encode(Image.fromarray(grey), "TIFF"), DecodeSettings(16, (0.0, 1.0)))


@pytest.mark.parametrize("window", [(5.0, 5.0), (9.0, 1.0), (0.0, float("nan"))])
def test_window_needs_a_width(window: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="low below high"):
        DecodeSettings(16, window)


@pytest.mark.parametrize(
    "given", [DecodeSettings(224), DecodeSettings(64, (0.0, 4095.0)), DecodeSettings(64, scaled=True)]
)
def test_settings_survive_json(given: DecodeSettings) -> None:
    assert DecodeSettings.from_json(given.to_json()) == given


@pytest.mark.parametrize(
    ("cmyk", "rgb"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 255, 0), (255, 0, 0)),
    ],
)
@pytest.mark.parametrize("file_format", ["TIFF", "JPEG"])
def test_cmyk_becomes_rgb(cmyk, rgb, file_format: str) -> None:
    image = Image.new("CMYK", (16, 16), cmyk)
    decoded = decode_bytes(hostile.encode(image, file_format), AT_16)
    assert decoded.mode == "CMYK"
    assert np.abs(decoded.pixels[8, 8].astype(int) - rgb).max() <= 3


def test_transparent_palette_colour_becomes_black() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (8, 0, 16, 16))
    decoded = decode_bytes(hostile.encode(image, "PNG", transparency=0), AT_16)
    assert decoded.pixels[8, 2].tolist() == [0, 0, 0]
    assert decoded.pixels[8, 12].tolist() == [0, 0, 255]


def test_half_transparency_is_half_as_bright() -> None:
    image = Image.new("RGBA", (16, 16), (200, 100, 50, 128))
    pixel = decode_bytes(hostile.encode(image, "PNG"), AT_16).pixels[8, 8].astype(int)
    assert np.abs(pixel - [100, 50, 25]).max() <= 1


@pytest.mark.parametrize("name", sorted(hostile.good_files()))
def test_good_files_are_read(name: str) -> None:
    pixels = decode_bytes(hostile.good_files()[name], AT_16).pixels
    assert pixels.shape == (16, 16, 3)
    assert pixels.std() > 10


@pytest.mark.parametrize("name", sorted(hostile.broken_files()))
def test_broken_files_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(hostile.broken_files()[name])
    with pytest.raises(ImageError):
        decode_file(path, AT_16)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text.jpg", "not an image"),
        ("empty.png", "0 bytes"),
        ("pixel.png", "1x1 pixels; at least 8x8"),
        ("bomb.png", "claims too many pixels; the limit is 100,000,000"),
        ("half.jpg", "truncated"),
    ],
)
def test_reasons_stand_for_themselves(name: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(hostile.broken_files()[name])
    with pytest.raises(ImageError, match=reason):
        decode_file(path, AT_16)


def test_header_between_our_limit_and_pillows_is_refused() -> None:
    with pytest.raises(ImageError, match="claims 11000x11000"):
        decode_bytes(hostile.png_bomb(11_000), AT_16)


def test_half_images_are_refused_even_when_somebody_allowed_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ImageError, match="LOAD_TRUNCATED_IMAGES"):
        decode_bytes(hostile.truncated("JPEG"), AT_16)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        decode_file(tmp_path / "none.jpg", AT_16)
    with pytest.raises(ImageError, match="not a regular file"):
        decode_file(tmp_path, AT_16)


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        decode_file(tmp_path / "pipe.jpg", AT_16)


def test_too_large_a_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as handle:
        handle.truncate(MAX_FILE_BYTES + 1)  # sparse: claims the size, holds nothing
    with pytest.raises(ImageError, match="the limit is 1,073,741,824"):
        decode_file(tmp_path / "huge.png", AT_16)


# ---- scaled decoding of JPEGs


def scene(side: int) -> np.ndarray:
    """``[side, side, 3]`` uint8: soft shapes, edges and fine noise, much as a photograph has them."""
    y, x = np.mgrid[0:side, 0:side] / side
    rng = np.random.default_rng(11)
    soft = 120 + 60 * np.sin(7 * x + 3 * y) + 40 * np.cos(11 * y)
    edges = 50.0 * ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.06) - 40.0 * (np.abs(x - y) < 0.01)
    layers = np.stack([soft + edges, 0.8 * soft - edges, soft[::-1]], axis=-1)
    return np.clip(layers + rng.normal(0, 6, layers.shape), 0, 255).astype(np.uint8)


def differences(data: bytes, size: int) -> np.ndarray:
    ordinary = decode_bytes(data, DecodeSettings(size)).pixels.astype(int)
    scaled = decode_bytes(data, DecodeSettings(size, scaled=True)).pixels.astype(int)
    return np.abs(ordinary - scaled)


@pytest.mark.parametrize("side", [448, 640, 1024])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_scaled_decoding_stays_within_its_bound(side: int, options: dict) -> None:
    data = hostile.encode(scene(side), "JPEG", quality=90, **options)
    off = differences(data, 224)
    assert 0 < off.mean() <= 2.0
    assert np.percentile(off, 99) <= 8
    assert off.max() <= 32


def test_scaled_decoding_is_off_unless_asked_for() -> None:
    assert not DecodeSettings(16).scaled
    assert DecodeSettings(16).to_json() == {"size": 16, "window": None}
    assert not DecodeSettings.from_json({"size": 16, "window": None}).scaled


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_scaled_decoding_leaves_other_formats_alone(file_format: str) -> None:
    assert differences(hostile.encode(scene(256), file_format), 32).max() == 0


def test_scaled_decoding_leaves_small_jpegs_alone() -> None:
    assert differences(hostile.encode(scene(63), "JPEG"), 32).max() == 0
    assert differences(hostile.encode(scene(128)[:40], "JPEG"), 32).max() == 0  # one side is too short


def test_scaled_decoding_states_stored_sizes_and_turns_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = hostile.gradient(320, 480)
    decoded = decode_bytes(hostile.encode(pixels, "JPEG", exif=exif), DecodeSettings(32, scaled=True))
    assert (decoded.width, decoded.height) == (480, 320)
    upright = Image.fromarray(np.rot90(pixels, -1).copy()).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.abs(decoded.pixels.astype(int) - np.asarray(upright)).max() <= 12


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_scaled_decoding_of_grey_and_cmyk(mode: str) -> None:
    data = hostile.encode(Image.fromarray(scene(512)).convert(mode), "JPEG", quality=95)
    assert differences(data, 64).mean() <= 1.0


def test_scaled_decoding_refuses_half_an_image() -> None:
    whole = hostile.encode(scene(512), "JPEG")
    with pytest.raises(ImageError, match="truncated"):
        decode_bytes(whole[: len(whole) // 2], DecodeSettings(64, scaled=True))


FUZZED = {name: hostile.encode(hostile.gradient(), name) for name in ("JPEG", "PNG")}


@pytest.mark.parametrize("file_format", sorted(FUZZED))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_files_give_pixels_or_a_reason(file_format: str, data: st.DataObject) -> None:
    content = bytearray(FUZZED[file_format])
    edits = data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=8)
    )
    for position, value in edits:
        content[position] = value
    kept = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    try:
        decoded = decode_bytes(bytes(content[:kept]), data.draw(st.sampled_from([AT_16, SCALED_16])))
    except ImageError:
        return
    assert decoded.pixels.shape == (16, 16, 3)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_behind_each_signature(content: bytes) -> None:
    for signature in (
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"II*\0",
        b"RIFF",
        b"BM",
        b"P6\n",
    ):
        try:
            decode_bytes(signature + content, AT_16)
        except ImageError:
            continue


IN_A_PROCESS_OF_ITS_OWN = """
import hashlib, json, sys
from pathlib import Path
from PIL import Image
from imagedata.decoding.decode import DecodeSettings, decode_file, reuse_pixel_memory

def digests():
    files = [Path(name) for name in sys.argv[1:]]
    decoded = [decode_file(file, DecodeSettings(64)) for file in files]
    return [hashlib.sha256(image.pixels.tobytes()).hexdigest() for image in decoded]

plain = digests()
reuse_pixel_memory()
Image.core.reset_stats()
print(json.dumps([plain == digests(), plain == digests(), Image.core.get_stats()]))
"""


def test_reused_memory_leaves_no_trace_and_is_bounded(tmp_path: Path) -> None:
    """Sizes rise and fall, so that what is kept is too small for some and larger than others."""
    sizes = [(90, 80), (1200, 900), (64, 64), (2000, 700), (33, 500), (300, 300)]
    for number, (width, height) in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        (tmp_path / f"{number}.png").write_bytes(hostile.encode(pixels, "PNG"))
    command = [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN, *map(str, sorted(tmp_path.iterdir()))]
    first, second, memory = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (first, second) == (True, True)
    assert memory["reused_blocks"] > 0
    assert memory["blocks_cached"] <= 8


def test_first_frame_of_an_animation_is_used() -> None:
    first, second = Image.new("RGB", (16, 16), (250, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 250))
    buffer = BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=[second])
    assert decode_bytes(buffer.getvalue(), AT_16).pixels[8, 8].tolist() == [250, 0, 0]
