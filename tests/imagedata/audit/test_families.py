"""Families of near copies by thumbnails."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance

from imagedata.audit.families import near_copy_families
from tests.pictures import picture


def write(folder, name, image, **options):
    path = folder / name
    image.save(path, **options)
    return path


def test_copies_encoded_again_smaller_or_brighter_are_one_family(tmp_path):
    images = [Image.fromarray(picture(np.random.default_rng(seed), odd=True, side=96)) for seed in range(6)]
    files = [write(tmp_path, f"{number}.png", image) for number, image in enumerate(images)]
    files += [
        write(tmp_path, "again.jpg", images[0], quality=75),
        write(tmp_path, "brighter.png", ImageEnhance.Brightness(images[0]).enhance(1.1)),
        write(tmp_path, "smaller.png", images[4].resize((64, 64), Image.Resampling.LANCZOS)),
    ]
    assert near_copy_families(files).tolist() == [0, 1, 2, 3, 4, 5, 0, 0, 4]


def test_blank_pictures_and_files_that_cannot_be_read_stand_alone(tmp_path):
    blank = Image.new("RGB", (40, 40), (90, 90, 90))
    files = [write(tmp_path, f"{number}.png", blank) for number in range(3)]
    assert near_copy_families([*files, tmp_path / "none.png"]).tolist() == [0, 1, 2, 3]
    assert near_copy_families([]).tolist() == []
