"""Masks of anomalies."""

import numpy as np
import pytest
from PIL import Image

from contracts.errors import ImageError
from imagedata.decoding.masks import read_mask


@pytest.mark.parametrize(("mode", "value"), [("L", 255), ("L", 1), ("RGB", 255), ("1", 1)])
def test_marked_pixels_whatever_value_says_so(tmp_path, mode, value):
    expected = np.zeros((12, 20), dtype=bool)
    expected[3:6, 4:11] = True
    if mode == "1":
        image = Image.fromarray(expected)
    else:
        image = Image.fromarray((expected * value).astype(np.uint8)).convert(mode)
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), expected)


def test_lossy_borders_do_not_count(tmp_path):
    grey = np.zeros((16, 16), dtype=np.uint8)
    grey[4:8, 4:8], grey[8, 4:8] = 255, 60
    Image.fromarray(grey).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").sum() == 16


def test_refuses_an_empty_mask_and_a_broken_file(tmp_path):
    Image.new("L", (16, 16)).save(tmp_path / "empty.png")
    with pytest.raises(ImageError, match="marks nothing"):
        read_mask(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError, match="not an image"):
        read_mask(tmp_path / "text.png")
