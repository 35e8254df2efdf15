"""Thumbnails and the sheets they lie on."""

import numpy as np
import pytest

from reporting.contact_sheets import THUMBNAIL, contact_sheet, thumbnail


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((50, 50), (100, 100)), ((400, 200), (112, 56)), ((3, 2000), (1, 112)), ((112, 60), (112, 60))],
)
def test_proportions_stay(shape, expected):
    assert thumbnail(np.zeros((*shape, 3), np.uint8)).shape[:2] == expected


def test_each_in_its_place():
    shades = [np.full((THUMBNAIL, THUMBNAIL, 3), 10 * i, np.uint8) for i in range(1, 9)]
    sheet = np.asarray(contact_sheet(shades, columns=3))
    step = THUMBNAIL + 6
    assert sheet.shape == (3 * step + 6, 3 * step + 6, 3)
    for place in range(8):
        row, column = divmod(place, 3)
        assert (sheet[row * step + 60, column * step + 60] == 10 * (place + 1)).all()
    assert (sheet[2 * step + 60, 2 * step + 60] == 255).all()
    assert contact_sheet(shades[:2], columns=6).width == 2 * step + 6
