"""Places of patches by the names of their files."""

import pytest

from imagedata.coordinates import PatchPlace, place_of


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("10253/1/10253_idx5_x1001_y1001_class1.png", PatchPlace("10253_idx5", 1001, 1001)),
        ("10253_idx5_x0_y51_class0.PNG", PatchPlace("10253_idx5", 0, 51)),
        ("a/slide-7_X=150_Y=3000.tif", PatchPlace("slide-7", 150, 3000)),
        ("x12_y7.png", PatchPlace("", 12, 7)),
        ("x12_y7/plain.png", None),  # of a folder, not of the file
        ("box3_y4.png", None),
        ("a_x3_z4.png", None),
        ("a_x12345678_y1.png", None),  # no slide is that large, and no canvas should be
        ("a_x1_y12345678.png", None),
    ],
)
def test_place_of(path, expected):
    assert place_of(path) == expected
