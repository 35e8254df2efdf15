"""The power law behind "what would ten more labels buy", on curves whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import DataError
from evaluation.learning_curve import draw_interval, extrapolate

SIZES = np.array([5.0, 10.0, 15.0, 20.0])


def draws_of(exponent: float, noise: float, seed: int = 0, scale: float = 0.8) -> np.ndarray:
    """``[6, 4]`` figures whose errors follow the law; the last size has one value, as in a run."""
    rng = np.random.default_rng(seed)
    errors = scale * SIZES**-exponent * np.exp(noise * rng.normal(size=(6, 4)))
    errors[:, -1] = errors[0, -1]
    return 1.0 - errors


def test_an_exact_law_is_continued_exactly():
    found = extrapolate(SIZES, draws_of(0.5, noise=0.0), more=10)
    assert found.exponent == pytest.approx(0.5)
    assert found.now == pytest.approx(1 - 0.8 * 20**-0.5)
    assert found.then == pytest.approx(1 - 0.8 * 30**-0.5)
    assert found.low == pytest.approx(found.then)
    assert found.high == pytest.approx(found.then)
    assert found.trend == "rises"


def test_a_flat_or_falling_curve_promises_nothing():
    noisy = [extrapolate(SIZES, draws_of(0.0, noise=0.15, seed=s), more=10) for s in range(20)]
    # By chance a few of them may seem to rise.
    assert sum(found.trend == "rises" for found in noisy) <= 3
    assert extrapolate(SIZES, draws_of(-0.3, noise=0.0), more=10).trend == "falls"


def test_no_error_left_is_a_ceiling():
    found = extrapolate(SIZES, np.ones((5, 4)), more=10)
    assert (found.trend, found.now, found.then, found.high) == ("ceiling", 1.0, 1.0, 1.0)


def test_draws_that_differ_widen_the_interval():
    narrow, wide = (extrapolate(SIZES, draws_of(0.5, noise), more=10) for noise in (0.02, 0.3))
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    assert 0.0 <= wide.low <= wide.then <= wide.high <= 1.0


def test_folds_that_differ_with_all_labels_widen_the_interval():
    figures = draws_of(0.5, noise=0.02)
    once = extrapolate(SIZES, figures, more=10)
    figures[:, -1] += np.tile([-0.05, 0.0, 0.05], 2)
    thrice = extrapolate(SIZES, figures, more=10)
    assert thrice.now == pytest.approx(once.now)
    # Two means of three values with a standard deviation of .05.
    assert thrice.high - thrice.low == pytest.approx(2 * 1.96 * 0.05 * np.sqrt(2 / 3), rel=0.25)


def test_the_interval_holds_the_figure_of_a_mean_of_more_terms():
    """Error = law + mean of one term per image, the case that the variance of the next images is made for."""
    hits, n_sets = 0, 60
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        terms = rng.normal(0.0, 0.15, 30)
        figures = np.empty((8, 4))
        for draw in range(8):
            order = rng.permutation(20)
            for s, n in enumerate(SIZES.astype(int)):
                figures[draw, s] = 1.0 - 0.8 * n**-0.4 - terms[order[:n]].mean()
        found = extrapolate(SIZES, figures, more=10, seed=seed)
        hits += found.low <= 1.0 - 0.8 * 30**-0.4 - terms.mean() <= found.high
    assert hits >= 0.85 * n_sets


def test_equal_input_gives_equal_intervals():
    figures = draws_of(0.5, noise=0.2)
    assert extrapolate(SIZES, figures, 10, seed=3) == extrapolate(SIZES, figures, 10, seed=3)


@pytest.mark.parametrize("shape", [(1, 4), (5, 1)])
def test_too_little_is_refused(shape):
    with pytest.raises(DataError, match="at least 2 draws of 2 sizes"):
        extrapolate(SIZES[: shape[1]], np.full(shape, 0.5), more=10)


def test_interval_of_a_further_draw():
    low, high = draw_interval(np.array([0.7, 0.8, 0.9]))
    # Student's t of 2 degrees of freedom: 4.303 * 0.1 * sqrt(4 / 3).
    assert (low, high) == (pytest.approx(0.8 - 0.4968, abs=1e-3), 1.0)
