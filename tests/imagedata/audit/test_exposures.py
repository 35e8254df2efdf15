"""One exposure or two: registration finds small warps, and a verdict rests on detail and noise."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.near_copies import frames
from imagedata.audit.exposures import MOST_DISTANCE, SURE_DISTANCE, compared, limit_of
from imagedata.audit.registration import IDENTITY, register, warped
from tests.hostile_corpus import photo


def grey(seed: int, side: int = 192) -> np.ndarray:
    return np.asarray(Image.fromarray(photo(seed, side)).convert("L"), dtype=np.float32)


@pytest.mark.parametrize(
    "warp", [(0.03, 0, 0.01, 0, 0.03, -0.02), (0, 0.03, 0, -0.03, 0, 0), (0, 0, 0.04, 0, 0, 0.03)]
)
def test_registration_finds_the_warp_that_was_applied(warp):
    picture = grey(3)
    moved, _ = warped(picture, np.array(warp))
    # ``moved`` shows at x what the picture shows at warp(x), so laying the picture over it finds that warp.
    found = register(moved, picture)
    assert found is not None
    assert np.abs(found - np.array(warp)).max() < 0.004


def test_nothing_is_warped_by_the_identity_and_strangers_are_not_registered_far():
    picture = grey(3)
    same, is_inside = warped(picture, IDENTITY)
    assert same is picture
    assert is_inside.all()
    found = register(picture, grey(8))
    assert found is None or np.abs(found).max() <= 0.15


def test_equal_pictures_have_no_distance_and_strangers_nearly_one():
    assert compared(grey(1), grey(1)).is_one_exposure(SURE_DISTANCE)
    assert not compared(grey(1), grey(2)).is_one_exposure(MOST_DISTANCE)
    assert not compared(np.full((64, 64), 90, np.float32), np.full((64, 64), 91, np.float32)).is_one_exposure(
        1
    )


def test_two_exposures_of_one_scene_have_noise_of_their_own():
    """Nothing moves and the light stays: only noise tells the exposures apart."""
    rng = np.random.default_rng(0)
    scene = np.asarray(frames(1, rng)[0], dtype=np.float32)
    scene = np.asarray(Image.fromarray(scene.astype(np.uint8)).resize((256, 256)), dtype=np.float32)
    one, other = (np.rint(scene + rng.normal(0, 2, scene.shape)).astype(np.float32) for _ in range(2))
    again = compared(one, one + rng.normal(0, 0.3, one.shape).astype(np.float32))
    assert again.noise > 0.8
    assert compared(one, other).noise < again.noise - 0.2


def test_limit_follows_the_set_and_stays_within_bounds():
    rng = np.random.default_rng(0)
    strangers = np.exp(rng.normal(np.log(0.7), 0.2, 48))
    lookalikes = np.exp(rng.normal(np.log(0.05), 0.4, 48))
    assert limit_of(strangers) == MOST_DISTANCE
    assert SURE_DISTANCE < limit_of(lookalikes) < 0.015
    assert limit_of(np.full(48, 0.003)) <= 0.003
    # Copies among the neighbours are passed over, and a few pictures tell nothing.
    assert limit_of(np.concatenate([lookalikes, np.full(20, 0.0005)])) == limit_of(lookalikes)
    assert limit_of(np.array([0.01])) == MOST_DISTANCE


def test_reduced_pictures_must_share_more_noise():
    picture = grey(1)
    assert compared(picture, picture).least_noise == 0.35
    assert compared(picture, picture, 2 * picture.shape[0]).least_noise == pytest.approx(0.75)
    assert 0.35 < compared(picture, picture, int(1.6 * picture.shape[0])).least_noise < 0.75
