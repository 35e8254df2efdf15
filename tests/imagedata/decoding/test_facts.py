from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from imagedata.decoding.decode import DecodeSettings, decode_bytes
from imagedata.decoding.facts import TITLES, picture_facts

SETTINGS = DecodeSettings(96)


def facts_of(image: Image.Image, **options: object) -> dict[str, float]:
    buffer = io.BytesIO()
    image.save(buffer, **({"format": "PNG"} | options))
    data = buffer.getvalue()
    return dict(zip(TITLES, picture_facts(decode_bytes(data, SETTINGS), len(data)).tolist(), strict=True))


@pytest.fixture
def picture() -> Image.Image:
    """Noise that is brighter on the left and above, and reddish."""
    noise = np.random.default_rng(0).normal(110, 20, (120, 192, 3))
    noise[:, :96] += 30
    noise[:60] += 10
    noise[..., 0] += 20
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


def test_what_the_facts_are(picture):
    facts = facts_of(picture)
    assert facts["megapixels"] == pytest.approx(0.02304)
    assert facts["aspect"] == pytest.approx(1.6)
    assert facts["brightness"] == pytest.approx(110 + 15 + 5 + 20 / 3, abs=3)
    assert facts["left_right"] == pytest.approx(30, abs=3)
    assert facts["top_bottom"] == pytest.approx(10, abs=3)
    assert facts["warmth"] == pytest.approx(20, abs=3)
    assert facts["clipped"] == 0.0


def test_each_change_moves_its_fact(picture):
    before = facts_of(picture)
    assert facts_of(picture.filter(ImageFilter.GaussianBlur(2)))["sharpness"] < 0.7 * before["sharpness"]
    assert facts_of(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))["left_right"] < -20
    assert facts_of(picture.point(lambda level: level // 2))["brightness"] < 0.6 * before["brightness"]
    low, high = (facts_of(picture, format="JPEG", quality=quality) for quality in (30, 95))
    assert low["bytes_per_pixel"] < 0.5 * high["bytes_per_pixel"]


def test_black_is_finite():
    facts = facts_of(Image.new("L", (40, 40)))
    assert all(np.isfinite(list(facts.values())))
    assert facts["clipped"] == 1.0
