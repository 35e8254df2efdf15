"""Pictures of any shape in a square: golden pixels, and the graph's twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from export.graph import resized
from imagedata.decoding.decode import DecodeSettings, decode_bytes
from imagedata.decoding.shape import FITS, GREY, in_square
from tests import hostile

SIDES = ((40, 60), (150, 40), (64, 64), (257, 300), (9, 33), (8, 2000))


def decoded(pixels: np.ndarray, fit: str, size: int = 4) -> np.ndarray:
    return decode_bytes(hostile.encode(pixels, "PNG"), DecodeSettings(size, fit=fit)).pixels


def test_golden_pixels():
    """24 rows of 40: from left to right and from top to bottom red and green rise from 0 to 255."""
    wide = hostile.gradient(24, 40)
    # The whole picture, in half of the rows.
    padded = decoded(wide, "pad", 8)
    assert padded[:, 0, 1].tolist() == [GREY, 26, 74, 127, 180, 228, GREY, GREY]
    assert padded[3, :, 0].tolist() == [16, 45, 78, 111, 143, 176, 209, 238]
    # Columns 8 to 32 of the 40, and all of the rows.
    cropped = decoded(wide, "crop")
    assert cropped[0, :, 0].tolist() == [72, 107, 147, 182]
    assert cropped[:, 0, 1].tolist() == [34, 94, 160, 220]


def test_upright_pictures_are_padded_and_cropped_alike():
    wide = hostile.gradient(24, 40)
    for fit in FITS:
        assert np.array_equal(
            decoded(wide.transpose(1, 0, 2), fit, 16), decoded(wide, fit, 16).transpose(1, 0, 2)
        )


@pytest.mark.parametrize("side", [16, 48, 300])
def test_squares_are_the_same_by_every_fit(side):
    square = hostile.noise(1, side, side)
    first, *others = (decoded(square, fit, 32) for fit in FITS)
    assert all(np.array_equal(first, other) for other in others)


def test_no_pixel_that_is_cropped_away_is_seen():
    wide = hostile.noise(2, 64, 200)
    other = wide.copy()
    other[:, :68] = 255
    other[:, 132:] = 0
    assert np.array_equal(decoded(wide, "crop", 16), decoded(other, "crop", 16))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("sides", SIDES)
def test_the_graph_sees_what_decoding_gives(fit, sides):
    pixels = hostile.noise(3, *sides)
    ours = np.asarray(in_square(Image.fromarray(pixels), 64, fit)).astype(float)
    graph = resized(torch.from_numpy(pixels[None]), 64, fit)[0].permute(1, 2, 0).numpy()
    # Pillow rounds after each of the two directions.
    assert np.abs(ours - graph).max() <= 1.01


def test_extreme_shapes_need_little_memory():
    long = Image.new("RGB", (1_000_000, 8))
    assert in_square(long, 16, "pad").size == (16, 16)
    assert in_square(long, 16, "crop").size == (16, 16)
