"""Generated images: counts, classes, isolation, seeds, sizes, the contact sheet."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from contracts.errors import DataError, UsageError
from supervised.synthetic.contact_sheet import ClassPictures, contact_sheet
from supervised.synthetic.generate import shrunken_images, synthesise
from supervised.synthetic.settings import SyntheticSettings, ten_synthetic_models
from tests.rows import synthetic_rows
from tests.supervised.synthetic.conftest import pictures, small


@pytest.mark.parametrize("sampler", ["smote", "adasyn"])
def test_three_classes(sampler):
    images, labels = pictures((30, 12, 7))
    sentences, epochs = [], []
    made = synthesise(
        images,
        labels,
        3,
        small(sampler=sampler, cap=0.5),
        0,
        report=sentences.append,
        on_epoch=lambda epoch, loss: epochs.append(epoch),
    )
    assert made.images.shape == (len(made.labels), 32, 32, 3)
    assert made.images.dtype == np.uint8
    assert made.facts["rows"] == [30, 12, 7]
    assert made.facts["generated"] == np.bincount(made.labels, minlength=3).tolist()
    assert made.facts["generated"][0] == 0
    if sampler == "smote":
        assert made.facts["generated"] == [0, 3, 8]
    assert epochs == [1, 2]
    assert len(made.facts["loss_per_epoch"]) == 2
    assert len(made.facts["reconstruction_mse_per_class"]) == 3
    assert sentences[-1].startswith(
        f"{len(made.labels)} images made by ae and {sampler}; reconstruction error"
    )


def test_generated_images_look_like_their_class():
    images, labels = pictures((40, 16, 12))
    made = synthesise(images, labels, 3, small(epochs=20, width=8, learning_rate=3e-3), 0)
    means = np.stack([images[labels == label].mean(axis=0) for label in range(3)])
    distances = np.abs(made.images[:, None].astype(float) - means).mean(axis=(2, 3, 4))
    assert (distances.argmin(axis=1) == made.labels).mean() > 0.9
    assert made.facts["reconstruction_mse"] < 0.01


def test_same_seed_same_bytes():
    images, labels = pictures((30, 10))
    one, again, other = (synthesise(images, labels, 2, small(), seed) for seed in (1, 1, 2))
    assert np.array_equal(one.images, again.images)
    assert one.sheet_png == again.sheet_png
    assert one.facts == again.facts
    assert not np.array_equal(one.images, other.images)


@pytest.mark.parametrize("gray", [True, False])
def test_larger_images_are_shrunk_and_gray_ones_have_equal_channels(gray):
    images, labels = pictures((20, 5), side=48)
    made = synthesise(images, labels, 2, small(gray=gray), 0)
    assert made.images.shape == (15, 32, 32, 3)
    assert (made.images[..., 0] == made.images[..., 1]).all() == gray


def test_rows_are_read_in_batches_and_only_those_asked_for(monkeypatch):
    rows = synthetic_rows((150, 20), image_size=48)
    asked = []
    read = rows.images
    monkeypatch.setattr(rows, "images", lambda positions: asked.append(positions) or read(positions))
    positions = np.arange(10, 160)
    shrunken = shrunken_images(rows, positions, 32)
    assert shrunken.shape == (150, 32, 32, 3)
    assert shrunken.dtype == np.uint8
    assert max(len(batch) for batch in asked) <= 64
    assert np.concatenate(asked).tolist() == positions.tolist()
    # Resizing them at once gives the same.
    small_rows = synthetic_rows((150, 20), image_size=32)
    assert np.array_equal(shrunken_images(small_rows, positions, 32), small_rows.images(positions))


def test_one_training_image_of_a_class_is_an_error():
    images, labels = pictures((20, 1))
    with pytest.raises(DataError, match="class 1 has 1 training images, but at least 2 are needed"):
        synthesise(images, labels, 2, small(epochs=1), 0)


def test_feature_settings_make_no_images():
    images, labels = pictures((20, 5))
    with pytest.raises(UsageError, match=r"Set synthetic\.space=images"):
        synthesise(images, labels, 2, SyntheticSettings(space="features"), 0)


@pytest.mark.parametrize(
    "wrong", [{"image_size": 40}, {"image_size": 16}, {"cap": 1.5}, {"model": "gan"}, {"neighbors": 3}]
)
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(ValidationError):
        SyntheticSettings(**wrong)


def test_the_ten_are_ten_different_ones():
    ten = ten_synthetic_models()
    assert len(ten) == len(set(ten.values())) == 10
    assert ten["wae_adasyn"].model == "wae"
    assert ten["ae_smote_penalty"].penalty
    assert "vae_adasyn_penalty" not in ten


def test_the_contact_sheet_is_a_png_with_three_rows_a_class():
    images, labels = pictures((30, 12, 7))
    sheet = synthesise(images, labels, 3, small(), 0).sheet_png
    picture = Image.open(io.BytesIO(sheet))
    picture.load()
    assert picture.format == "PNG"
    two = np.asarray(picture)
    one = np.asarray(Image.open(io.BytesIO(synthesise(images, labels, 3, small(cap=0.3), 0).sheet_png)))
    # Class 1 has 40 % already and does not grow.
    assert two.shape[0] - one.shape[0] == 3 * (20 + 64 + 4)


def test_pictures_stand_where_the_sheet_says():
    flat = [np.full((2, 32, 32, 3), value, dtype=np.uint8) for value in (10, 100, 200)]
    sheet = contact_sheet("title", [ClassPictures("class 1", 2, 2, *flat)])
    pixels = np.asarray(Image.open(io.BytesIO(sheet)))
    assert [pixels[12 + 20 + 20 + 30 + line * 88, 12 + 68 + 30, 0] for line in range(3)] == [10, 100, 200]


def test_a_sheet_of_many_classes_shows_the_rarest():
    tile = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    many = [ClassPictures(f"class {n}", 100 - n, 5, tile, tile, tile) for n in range(30)]
    heights = [Image.open(io.BytesIO(contact_sheet("t", part))).height for part in (many, many[10:])]
    assert heights[0] == heights[1]
    assert Image.open(io.BytesIO(contact_sheet("t", []))).width == 480
