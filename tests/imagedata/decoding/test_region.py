"""The region of interest: nothing outside of it is seen, and what cannot be one is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.errors import ImageError, UsageError
from imagedata.decoding.decode import DecodeSettings, decode_bytes, pixels_at_working_size
from imagedata.decoding.masks import read_region
from imagedata.decoding.region import Region
from imagedata.decoding.shape import FITS, GREY
from tests import hostile

MASK = np.zeros((50, 80), dtype=bool)
MASK[10:40, 20:70] = True
MASK[10:20, 20:30] = False
BY_MASK = Region.of_mask(MASK)
BY_BOX = Region((0.25, 0.2, 0.875, 0.8))


@pytest.mark.parametrize("region", [BY_MASK, BY_BOX], ids=["mask", "box"])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("scale", [1, 3])
def test_pixels_outside_are_not_seen(region, fit, scale):
    """By a picture of the mask's size, and by a larger one."""
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 256, (50 * scale, 80 * scale, 3), dtype=np.uint8)
    inside = MASK
    if region is BY_BOX:
        inside = np.zeros_like(MASK)
        inside[10:40, 20:70] = True
    outside = ~inside.repeat(scale, axis=0).repeat(scale, axis=1)
    other = pixels.copy()
    other[outside] = rng.integers(0, 256, (int(outside.sum()), 3))
    settings = DecodeSettings(32, fit=fit, region=region)
    first, second = (decode_bytes(hostile.encode(each, "PNG"), settings).pixels for each in (pixels, other))
    assert np.array_equal(first, second)
    assert np.array_equal(first, pixels_at_working_size(pixels, settings))
    # And a single pixel inside is.
    pixels[20 * scale : 21 * scale, 40 * scale : 41 * scale] ^= 255
    assert not np.array_equal(first, pixels_at_working_size(pixels, settings))


@pytest.mark.parametrize("region", [BY_MASK, BY_BOX], ids=["mask", "box"])
def test_of_a_grey_file_the_same_is_seen(region):
    grey = np.random.default_rng(5).integers(0, 256, (50, 80), dtype=np.uint8)
    settings = DecodeSettings(32, region=region)
    stored = decode_bytes(hostile.encode(grey, "PNG"), settings)
    assert stored.mode == "L"
    assert np.array_equal(stored.pixels, pixels_at_working_size(np.stack([grey] * 3, axis=-1), settings))


def test_golden_pixels():
    pixels = np.zeros((50, 80, 3), dtype=np.uint8)
    pixels[MASK] = 200
    # The box has 50 x 30 pixels, of which the mask leaves 10 x 10 out.
    seen = pixels_at_working_size(pixels, DecodeSettings(10, region=BY_MASK))
    assert seen[0, 0].tolist() == seen[1, 0].tolist() == [GREY] * 3
    assert seen[0, 4].tolist() == seen[5, 0].tolist() == seen[9, 9].tolist() == [200] * 3
    exact = pixels_at_working_size(hostile.gradient(50, 80), DecodeSettings(64, region=Region((0, 0, 1, 1))))
    assert np.array_equal(exact, pixels_at_working_size(hostile.gradient(50, 80), DecodeSettings(64)))


def test_settings_with_a_region_survive_json():
    for region in (BY_MASK, BY_BOX):
        settings = DecodeSettings(64, fit="pad", region=region)
        again = DecodeSettings.from_json(settings.to_json())
        assert again == settings
        assert again.region.digest == region.digest
    assert DecodeSettings.from_json({"size": 16, "window": None}) == DecodeSettings(16)
    assert DecodeSettings(16).to_json() == {"size": 16, "window": None}


def test_digest_follows_what_is_marked():
    again = Region(mask=hostile.encode(Image.fromarray(MASK), "PNG", optimize=False))
    assert again.mask != BY_MASK.mask
    assert again.digest == BY_MASK.digest
    assert len({BY_MASK.digest, BY_BOX.digest, Region.of_mask(~MASK).digest}) == 3


def test_maps_are_lowest_outside():
    cells = BY_MASK.seen(10, "squeeze")
    assert not cells[:3, :2].any()
    assert cells[4:].all()
    assert cells[:3, 3:].all()
    maps = np.random.default_rng(5).normal(size=(2, 10, 10)).astype(np.float32)
    within = BY_MASK.within(maps, "squeeze")
    assert np.array_equal(within[:, cells], maps[:, cells])
    for before, after in zip(maps, within, strict=True):
        assert (after[~cells] == before[cells].min()).all()
    assert BY_BOX.within(maps, "squeeze") is maps
    # Bars are no part of the region: its 30 rows of 50 lie in the middle 6 of 10.
    padded = BY_MASK.seen(10, "pad")
    assert not padded[:2].any()
    assert not padded[8:].any()
    assert padded[5].all()


@pytest.mark.parametrize(
    "box", [(0.5, 0, 0.5, 1), (0.9, 0.1, 0.1, 0.9), (-0.1, 0, 1, 1), (0, 0, 1, 1.5), (0, 0, float("nan"), 1)]
)
def test_rectangles_that_are_none(box):
    with pytest.raises(UsageError, match=r"left,top,right,bottom in shares .* such as roi=.1,.1,.9,.9"):
        Region(box)


def test_pictures_that_do_not_fit():
    with pytest.raises(ImageError, match=r"80x80 pixels upright, but the mask .* is 80x50") as caught:
        pixels_at_working_size(hostile.gradient(80, 80), DecodeSettings(16, region=BY_MASK))
    assert caught.value.rule == "region"
    small = Region((0.0, 0.0, 0.1, 0.1))
    with pytest.raises(ImageError, match="region of interest holds 6x4; at least 8x8") as caught:
        pixels_at_working_size(hostile.gradient(40, 60), DecodeSettings(16, region=small))
    assert caught.value.rule == "too_small"


def test_reduced_jpegs_have_no_sharp_border():
    with pytest.raises(UsageError, match="scaled_jpeg and roi"):
        DecodeSettings(16, scaled=True, region=BY_BOX)
    with pytest.raises(UsageError, match="fit is 'fill'; it is one of squeeze, pad, crop"):
        DecodeSettings(16, fit="fill")


def test_masks_are_read_from_files(tmp_path: Path):
    path = tmp_path / "mask.png"
    Image.fromarray(MASK).convert("RGB").save(path)
    assert read_region(str(path)).digest == BY_MASK.digest
    assert read_region("mask.png", beside=tmp_path).digest == BY_MASK.digest
    assert read_region(None) is None
    assert read_region((0.0, 0.0, 0.5, 1.0)).box == (0.0, 0.0, 0.5, 1.0)
    with pytest.raises(UsageError, match=r"roi=none.png: there is no file none.png or .*Name a mask image"):
        read_region("none.png", beside=tmp_path)
    Image.new("L", (80, 50)).save(path)
    with pytest.raises(UsageError, match=r"the mask marks nothing\. Paint white what is to be looked at"):
        read_region(str(path))
    path.write_bytes(b"no picture")
    with pytest.raises(UsageError, match="not an image"):
        read_region(str(path))


def test_a_region_is_symmetric_where_what_is_cut_out_of_a_picture_is():
    assert BY_BOX.is_symmetric
    assert Region((0.0, 0.0, 0.3, 1.0)).is_symmetric
    assert not BY_MASK.is_symmetric
    y, x = np.mgrid[0:50, 0:80]
    disc = (x - 50) ** 2 + (y - 20) ** 2 < 15**2
    # Anywhere in the picture: it is cut to its own bounding box before it is mirrored.
    assert Region.of_mask(disc).is_symmetric
    by_hand = disc.copy()
    by_hand[20, 37] = False
    assert Region.of_mask(by_hand).is_symmetric
    by_hand[10:30, 37:41] = False
    assert not Region.of_mask(by_hand).is_symmetric
