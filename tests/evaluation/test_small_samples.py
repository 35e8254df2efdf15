"""Intervals for a handful of minority images: known values, limits, and coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.comparison import Predictions, compare
from evaluation.ranking import ranking_figures
from evaluation.small_samples import auroc_interval, average_precision_interval

SHARES = st.floats(0.0, 1.0)
SIZES = st.integers(1, 500)


@given(SHARES, SIZES, SIZES)
def test_an_interval_of_auroc_holds_its_estimate_and_stays_within_0_and_1(auroc, n, m):
    low, high = auroc_interval(auroc, n, m)
    assert 0.0 <= low <= auroc + 1e-9
    assert auroc - 1e-9 <= high <= 1.0


@given(SHARES, SIZES)
def test_an_interval_of_average_precision_holds_its_estimate(precision, n):
    low, high = average_precision_interval(precision, n)
    assert 0.0 <= low <= precision <= high <= 1.0


def test_the_ends_solve_newcombes_equation():
    n, m, estimate = 5, 40, 0.9

    def variance(theta):
        size = (n + m) / 2 - 1
        return (
            theta
            * (1 - theta)
            * (1 + size * (1 - theta) / (2 - theta) + size * theta / (1 + theta))
            / (n * m)
        )

    for end in auroc_interval(estimate, n, m):
        assert abs(end - estimate) == pytest.approx(1.959964 * np.sqrt(variance(end)), rel=1e-5)


def test_a_perfect_ranking_of_two_images_is_not_certain():
    low, high = auroc_interval(1.0, 2, 200)
    assert 0.4 < low < 0.8
    assert high == 1.0


def test_more_images_narrow_it():
    widths = [high - low for low, high in (auroc_interval(0.9, n, 300) for n in (1, 3, 9, 30, 100))]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("n_minority", [1, 2, 5, 9])
def test_coverage_with_few_minority_images(n_minority):
    rng = np.random.default_rng(n_minority)
    truth = 0.921  # of two normal distributions two standard deviations apart
    held = 0
    for _ in range(300):
        scores = np.r_[rng.normal(0, 1, 100), rng.normal(2, 1, n_minority)]
        auroc = ranking_figures(np.arange(len(scores)) >= 100, scores)["auroc"]
        low, high = auroc_interval(auroc, n_minority, 100)
        held += low <= truth <= high
    assert held / 300 >= 0.93


def test_cross_validated_intervals_are_wider_than_a_bootstrap_of_three_images():
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(60, np.int64), np.ones(3, np.int64)]
    p = np.clip(0.3 * labels + rng.uniform(0, 0.5, 63), 0, 1)
    said = {"baseline": Predictions("baseline", np.stack([1 - p, p], axis=1), (p > 0.4).astype(np.int64))}
    plain, cross_validated = (
        compare(
            labels, np.arange(63), [said], "baseline", ("a", "b"), n_replicates=200, cross_validated=flag
        )[0]
        for flag in (False, True)
    )
    for metric in ("auroc", "average_precision"):
        assert cross_validated[metric] == plain[metric]
        narrow, wide = plain["intervals"][metric], cross_validated["intervals"][metric]
        assert wide[0] < narrow[0]
        assert wide[1] >= narrow[1]
    assert cross_validated["intervals"]["brier"] == plain["intervals"]["brier"]


@pytest.mark.parametrize(("n_minority", "is_bounded"), [(1, False), (2, False), (3, True)])
def test_one_or_two_images_bound_no_figure_from_above(n_minority, is_bounded):
    rng = np.random.default_rng(1)
    labels = np.r_[np.zeros(60, np.int64), np.ones(n_minority, np.int64)]
    # The minority in the middle of the ranking, so that every two-sided interval ends below 1.
    p = np.r_[rng.uniform(0, 1, 60), np.linspace(0.3, 0.4, n_minority)]
    said = {"baseline": Predictions("baseline", np.stack([1 - p, p], axis=1), (p > 0.5).astype(np.int64))}
    [row] = compare(
        labels,
        np.arange(len(labels)),
        [said],
        "baseline",
        ("a", "b"),
        n_replicates=200,
        cross_validated=True,
    )
    for metric in ("auroc", "average_precision"):
        low, high = row["intervals"][metric]
        assert low < row[metric]
        assert (high < 1.0) is is_bounded
