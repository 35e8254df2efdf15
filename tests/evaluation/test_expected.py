"""Figures at a share of the minority against counting and simulation; triage's figures against counting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from contracts.triage import FAIL, NOVEL, PASS, REVIEW
from evaluation.comparison import clopper_pearson
from evaluation.expected import figures_at, mixed, precision_of, rate_of
from evaluation.triage import CURVE_RATES, triage_curve, triage_figures


def rate(hits, trials):
    return [hits / trials, *clopper_pearson(hits, trials)]


def test_per_thousand_by_hand():
    found = figures_at(0.01, rate(80, 100), rate(10, 200), (1.0, 20.0))
    assert found["alarms"][0] == pytest.approx(1000 * (0.01 * 0.8 + 0.99 * 0.05))
    assert found["false_alarms"][0] == pytest.approx(49.5)
    assert found["misses"][0] == pytest.approx(2.0)
    assert found["precision"][0] == pytest.approx(8.0 / 57.5)
    assert found["cost"][0] == pytest.approx(49.5 * 1.0 + 2.0 * 20.0)
    for name in ("alarms", "false_alarms", "misses", "precision", "cost"):
        value, low, high = found[name]
        assert low < value < high
    assert figures_at(0.01, rate(80, 100), rate(10, 200))["cost"] is None


def test_the_ends_stay_honest_at_nothing_and_everything():
    none_false = figures_at(0.01, rate(50, 50), rate(0, 200))
    assert none_false["precision"][0] == none_false["precision"][2] == 1.0
    assert none_false["precision"][1] < 0.5
    assert none_false["false_alarms"][:2] == [0.0, 0.0]
    assert none_false["false_alarms"][2] == pytest.approx(1000 * 0.99 * clopper_pearson(0, 200)[1])
    assert precision_of(0.01, rate(0, 50), rate(0, 200)) is None
    assert precision_of(0.01, rate(0, 50), rate(3, 200))[:2] == [0.0, 0.0]


def test_intervals_cover():
    """Precision and alarms of 95 % intervals, by simulation; exact binomial ends make them conservative."""
    rng, share, recall, alarms = np.random.default_rng(0), 0.05, 0.8, 0.03
    truth = share * recall / (share * recall + (1 - share) * alarms)
    all_alarms = share * recall + (1 - share) * alarms
    held = []
    for _ in range(400):
        found = [rate(int(rng.binomial(n, p)), n) for n, p in ((80, recall), (300, alarms))]
        precision, both = precision_of(share, *found), mixed(share, *found)
        held.append([precision[1] <= truth <= precision[2], both[1] <= all_alarms <= both[2]])
    assert (np.mean(held, axis=0) >= 0.94).all()


def test_a_group_counts_as_one():
    is_hit = np.array([True, True, False, False])
    assert rate_of(is_hit, np.array([0, 0, 1, 1])) == [0.5, *clopper_pearson(1.0, 2)]
    assert math.isclose(rate_of(is_hit, np.arange(4))[1], clopper_pearson(2, 4)[0])


def test_triage_is_counted():
    codes = np.array([PASS, FAIL, FAIL, REVIEW, PASS, PASS, FAIL, NOVEL, REVIEW, PASS])
    is_minority = np.arange(10) < 4
    found = triage_figures(codes, is_minority, np.arange(10), 0.1)
    assert found["counts"]["minority"] == {"PASS": 1, "FAIL": 2, "REVIEW": 1, "NOVEL": 0}
    assert found["misses"] == rate(1, 4)
    assert found["false_alarms"] == rate(1, 6)
    assert found["coverage"]["minority"][0] == 0.75
    assert found["coverage"]["normal"][0] == pytest.approx(4 / 6)
    assert found["review"][0] == pytest.approx(0.1 * 0.25 + 0.9 / 6)
    assert found["novel"][0] == pytest.approx(0.9 / 6)


def test_the_curve_misses_more_where_less_is_reviewed():
    rng = np.random.default_rng(1)
    is_minority = np.arange(400) < 100
    scores = rng.normal(size=400) + 2.0 * is_minority
    p_normal = np.array([(scores[~is_minority] >= s).mean() for s in scores])
    p_minority = np.array([(scores[is_minority] <= s).mean() for s in scores])
    curve = triage_curve(p_normal, p_minority, is_minority, np.arange(400), 0.25)
    assert [point["rate"] for point in curve] == list(CURVE_RATES)
    misses = [point["misses"][0] for point in curve]
    assert misses[0] <= 0.01
    # Up to where the classes' sets part; beyond, more is asked away than overlaps.
    assert misses[:6] == sorted(misses[:6])
    assert all(point["misses"][0] <= point["rate"] + 1e-9 for point in curve)
