"""Changes of an image that no eye sees."""

from __future__ import annotations

import numpy as np
import pytest

from workflow.ensembling.perturbations import PERTURBATIONS


def picture(grey: bool = False) -> np.ndarray:
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    image = np.stack([np.tile(ramp, (32, 1)), np.tile(ramp[:, None], (1, 32)), np.full((32, 32), 90)], axis=2)
    return np.repeat(image[..., :1], 3, axis=2) if grey else image.astype(np.uint8)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_an_image_changes_a_little_and_always_in_the_same_way(name):
    image = picture()
    change = PERTURBATIONS[name].change
    changed = change(image, 3)
    assert (changed.dtype, changed.shape) == (np.uint8, image.shape)
    np.testing.assert_array_equal(image, picture())
    np.testing.assert_array_equal(changed, change(image, 3))
    difference = np.abs(changed.astype(int) - image)
    assert 0 < difference.mean() < 10


def test_noise_is_of_one_level_and_ends_at_black_and_white():
    changed = PERTURBATIONS["noise"].change(picture(), 0).astype(int)
    assert set(np.unique(changed - picture())) == {-1, 0, 1}
    assert not np.array_equal(changed, PERTURBATIONS["noise"].change(picture(), 1))


def test_noise_of_a_grey_image_is_grey():
    changed = PERTURBATIONS["noise"].change(picture(grey=True), 0)
    assert (changed == changed[..., :1]).all()


def test_shifting_moves_columns_to_the_right():
    changed = PERTURBATIONS["shift"].change(picture(), 0)
    np.testing.assert_array_equal(changed[:, 1:], picture()[:, :-1])


def test_white_stays_white_when_it_grows_brighter():
    changed = PERTURBATIONS["brighter"].change(picture(), 0)
    assert (changed[:, -1, 0] == 255).all()
    assert (changed[..., 2] == 92).all()
