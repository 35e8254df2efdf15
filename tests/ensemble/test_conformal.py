"""p_normal against its slow, obvious definition, its validity on exchangeable images, and its grid."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom

from contracts.errors import DataError, ModelError
from ensemble.conformal import MOST_STEPS, ConformalClass, fused_score


def slow_p_normal(calibration, groups, scores):
    """The definition, one image at a time: every group weighs one, shared by its images."""
    n = len(set(groups.tolist()))
    weight = [1.0 / int((groups == group).sum()) for group in groups]
    return np.array(
        [(1 + sum(w for v, w in zip(calibration, weight, strict=True) if v >= s)) / (n + 1) for s in scores]
    )


def alone(n):
    return np.arange(n, dtype=np.int64)


def test_counts_as_the_formula_says():
    fitted = ConformalClass.fit(np.array([1.0, 2.0, 2.0, 5.0]), alone(4))
    assert fitted([0.0, 1.0, 1.5, 2.0, 5.0, 5.1]).tolist() == [1.0, 1.0, 0.8, 0.8, 0.4, 0.2]
    assert fitted.least == 0.2
    assert fitted.sentence == (
        "p_normal places an image among 4 normal images scored out of fold; its smallest value is 0.2, 1 / 5."
    )


def test_a_group_counts_as_one():
    fitted = ConformalClass.fit(np.array([1.0, 2.0, 3.0, 9.0]), np.array([7, 7, 7, 0]))
    assert fitted.n == 2
    assert fitted([0.0, 2.5, 4.0, 10.0]) == pytest.approx([1.0, (1 + 1 / 3 + 1) / 3, 2 / 3, 1 / 3])
    assert "among 4 normal images in 2 independent groups" in fitted.sentence


def test_thirds_add_up():
    n_groups = 33
    fitted = ConformalClass.fit(np.arange(3.0 * n_groups), np.repeat(np.arange(n_groups), 3))
    # (1 + 33) / 34 is exactly 1, and 1 + 16 exactly half of 34.
    assert fitted([-1.0, 51.0]).tolist() == [1.0, 0.5]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40).flatmap(
        lambda n: st.tuples(
            arrays(np.float64, n, elements=st.floats(-8, 8).map(lambda value: round(value, 1))),
            arrays(np.int64, n, elements=st.integers(0, 9)),
        )
    )
)
def test_repeats_the_definition(drawn):
    calibration, groups = drawn
    fitted = ConformalClass.fit(calibration, groups)
    scores = np.concatenate([calibration, calibration + 0.05, [-100.0, 100.0]])
    p = fitted(scores)
    np.testing.assert_allclose(p, slow_p_normal(calibration, groups, scores), rtol=0, atol=1e-12)
    assert (np.diff(p[np.argsort(scores)]) <= 0).all()
    assert p.min() == 1 / (fitted.n + 1)
    assert p.max() == 1.0
    assert ConformalClass.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


@settings(max_examples=10, deadline=None)
@given(st.integers(MOST_STEPS + 1, 30_000), st.integers(1, 5), st.integers(0, 99))
def test_a_thinned_grid_only_rounds_up(n, per_group, seed):
    rng = np.random.default_rng(seed)
    calibration, groups = rng.normal(size=n), np.arange(n) // per_group
    fitted = ConformalClass.fit(calibration, groups)
    assert len(fitted.knots) <= MOST_STEPS
    scores = np.concatenate([rng.normal(size=3000), rng.choice(calibration, 1000), [-9.0, 9.0]])
    weight = 1.0 / np.bincount(groups)[groups]
    order = np.argsort(calibration)
    tail = np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
    exact = (1 + tail[np.searchsorted(calibration[order], scores)]) / (fitted.n + 1)
    p = fitted(scores)
    assert (p >= exact - 1e-11).all()
    assert (p <= exact * 1.03).all()
    top = scores > np.sort(calibration)[-500]
    np.testing.assert_allclose(p[top], exact[top], rtol=0, atol=1e-11)


@pytest.mark.parametrize("images_per_group", [1, 6])
@pytest.mark.parametrize("n_groups", [25, 120])
def test_valid_on_exchangeable_images(n_groups, images_per_group):
    """A new normal image of a new group: p_normal <= alpha no more often than alpha, up to the binomial."""
    n_seeds = 4000
    rng = np.random.default_rng(n_groups + images_per_group)
    p = np.empty(n_seeds)
    for seed in range(n_seeds):
        # Groups differ in size and in level: images of one patient are alike.
        sizes = rng.integers(1, images_per_group + 1, n_groups + 1)
        of_image = np.repeat(np.arange(n_groups + 1), sizes)
        level = rng.normal(size=n_groups + 1) * 2.0
        scores = level[of_image] + rng.normal(size=len(of_image))
        new = of_image == n_groups
        p[seed] = ConformalClass.fit(scores[~new], of_image[~new])(scores[new][:1])[0]
    for alpha in (0.01, 0.02, 0.05, 0.1, 0.2):
        false_alarms = int((p <= alpha).sum())
        assert false_alarms <= binom.ppf(0.999, n_seeds, alpha)
        # Nor is it cautious without need: within one step of the grid for images on their own.
        if images_per_group == 1:
            assert false_alarms >= binom.ppf(0.001, n_seeds, max(0.0, alpha - 1 / (n_groups + 1)))


def test_counting_images_of_a_group_one_by_one_would_not_be_valid():
    """Why groups are weighted: the plain count promises what it does not hold."""
    rng = np.random.default_rng(0)
    plain, n_groups, per_group = [], 8, 40
    for _ in range(2000):
        level = np.repeat(rng.normal(size=n_groups) * 2.0, per_group)
        scores = level + 0.1 * rng.normal(size=len(level))
        new = np.array([rng.normal() * 2.0])
        plain.append(ConformalClass.fit(scores, alone(len(scores)))(new)[0])
    assert np.mean(np.array(plain) <= 0.05) > 0.09


def test_minority_against_the_rest_for_more_classes():
    logits = np.array([[0.0, 0.0, 1.0], [2.0, 1.0, -1.0]])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert fused_score(logits) == pytest.approx(np.log(p[:, 2] / (1 - p[:, 2])))
    assert fused_score(logits[:, 0]).tolist() == [0.0, 2.0]


def test_says_what_is_missing():
    with pytest.raises(DataError, match=r"no normal image was scored out of fold\. Give normal images"):
        ConformalClass.fit(np.empty(0), np.empty(0, np.int64))
    with pytest.raises(ModelError, match="not finite"):
        ConformalClass.fit(np.array([0.0, np.nan]), alone(2))
