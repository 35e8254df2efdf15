"""The picture of an explanation: crops that show the right place, names that can be drawn, equal bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from reporting.explanation import Explanation, Place, ShownMap, ShownPatch, crop, draw, png, printable


def indexed(side: int) -> np.ndarray:
    """Every pixel carries its own row and column."""
    rows, columns = np.mgrid[0:side, 0:side]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


@pytest.mark.parametrize(("side", "grid"), [(56, 14), (64, 4), (50, 7), (30, 3)])
def test_the_outlined_part_of_a_crop_is_the_cell(side, grid):
    pixels = indexed(side)
    span = min(5, grid)
    for cell in range(grid**2):
        row, column = divmod(cell, grid)
        window, (left, top, right, bottom) = crop(pixels, Place(cell, grid))
        inside = window[top:bottom, left:right]
        edges = [round(edge * side / grid) for edge in range(grid + 1)]
        assert inside[0, 0, :2].tolist() == [edges[row], edges[column]]
        assert inside[-1, -1, :2].tolist() == [edges[row + 1] - 1, edges[column + 1] - 1]
        # The window is as large as it can be everywhere, at borders too.
        assert abs(window.shape[0] - span * side / grid) <= 1
        assert abs(window.shape[1] - span * side / grid) <= 1


def test_a_place_is_a_box_in_shares_of_the_sides():
    place = Place(cell=7, grid=5)
    assert place.box == pytest.approx((0.4, 0.2, 0.6, 0.4))
    assert place.words == "row 2, column 3 of 5"


def test_names_that_no_font_has_can_be_drawn():
    assert printable("ß$x_1$\n.png") == "?$x_1$?.png"
    assert printable("a" * 40 + ".png") == "..." + "a" * 23 + ".png"
    assert len(printable("b" * 99, 18)) == 18


def explanation(maps, patches) -> Explanation:
    return Explanation(
        name="$\\frac{1$ Ж.png",
        verdict="p(odd) = 0.5: decided $odd",
        pixels=indexed(32),
        maps=maps,
        contributions=[("patchcore", 1.5), ("cnn", -0.5)],
        unit="log-odds",
        patches=patches,
    )


def patch(cell: int, name: str = "") -> ShownPatch:
    return ShownPatch(indexed(32), Place(cell, 4), name, 1.25)


@pytest.mark.parametrize("case", ["everything", "many maps", "constant map", "no map"])
def test_draws_whatever_there_is(case):
    heat = np.random.default_rng(0).uniform(size=(4, 4)).astype(np.float32)
    maps = {
        "everything": [ShownMap("patchcore", heat, (0.1, 0.5), "distance")],
        "many maps": [ShownMap(name, heat, (0.1, 0.5), name and "logit") for name in ("", *"abcde")],
        "constant map": [ShownMap("$b_c", np.full((4, 4), 0.1, np.float32), (0.1, 0.5), "distance")],
        "no map": [],
    }[case]
    neighbours = [patch(3, "a.png"), patch(12, "%b_.png")]
    patches = [(patch(0), neighbours), (patch(15), neighbours[:1])] if case == "everything" else []
    content = png(draw(explanation(maps, patches)))
    assert content == png(draw(explanation(maps, patches)))
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    assert image.width == 1100
    # Beside the image lies the first map, and below it three in a row.
    rows_below = -(-max(len(maps) - 1, 0) // 3)
    assert image.height == pytest.approx(110 * (0.55 + 3.3 + 3.1 * rows_below + 2.25 * len(patches)), abs=1)
    pixels = np.asarray(image.convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
