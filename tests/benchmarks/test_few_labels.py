"""Draws of few-label problems: what is trained on is never judged, and more labels contain fewer."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.few_labels.draws import MOST_MAJORITY, MOST_TEST, draw_of, usable_counts
from benchmarks.few_labels.intervals import interval_of
from benchmarks.few_labels.tables import COUNTS


def labels_of(majority, minority):
    return np.repeat([0, 1], [majority, minority]).astype(np.int64)


def test_numbers_of_labels_leave_enough_to_judge_on():
    assert usable_counts(COUNTS, 24) == [0, 1, 2, 5, 10, 12]
    assert usable_counts(COUNTS, 120) == [*COUNTS]
    assert usable_counts((1, 2), 2) == [1]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_draw_without_groups(seed):
    labels = labels_of(900, 120)
    groups = np.array([f"g{i}" for i in range(len(labels))])
    draw = draw_of(labels, groups, 50, seed)
    assert len(draw.majority) == MOST_MAJORITY
    assert (labels[draw.majority] == 0).all()
    assert len(draw.candidates) == 50
    assert (labels[draw.candidates] == 1).all()
    assert not set(draw.test) & {*draw.majority, *draw.candidates}
    assert np.bincount(labels[draw.test]).tolist() == [MOST_TEST, 70]
    again = draw_of(labels, groups, 50, seed)
    assert (draw.candidates == again.candidates).all()
    assert (draw.test == again.test).all()
    assert set(draw.majority) != set(draw_of(labels, groups, 50, seed + 2).majority)


def test_no_group_is_trained_on_and_judged():
    rng = np.random.default_rng(0)
    labels = labels_of(400, 200)
    groups = np.array([f"smear{i}" for i in rng.integers(0, 60, len(labels))])
    draw = draw_of(labels, groups, 30, 0)
    trained = set(groups[draw.majority]) | set(groups[draw.candidates])
    assert not trained & set(groups[draw.test])
    assert len(draw.candidates) == 30
    assert len(draw.majority) == 240
    assert {0, 1} == set(labels[draw.test])


def test_an_interval_knows_that_problems_share_a_set():
    rng = np.random.default_rng(0)
    of_set = np.repeat(rng.normal(0.0, 1.0, 8), 10)
    values = of_set + rng.normal(0.0, 0.01, 80)
    names = [f"set{i}" for i in np.repeat(np.arange(8), 10)]
    shared = interval_of(values, names)
    apart = interval_of(values, [f"set{i}" for i in range(80)])
    assert shared.mean == pytest.approx(values.mean()) == pytest.approx(apart.mean)
    assert shared.high - shared.low > 2.0 * (apart.high - apart.low)
    assert interval_of(np.ones(5), ["a"] * 5).excludes_zero
    assert not interval_of(np.array([-1.0, 1.0]), ["a", "b"]).excludes_zero
