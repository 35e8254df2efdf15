from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from export.scoring.watch.reference import N_FINE, fine_counts
from export.scoring.watch.share import estimate_share
from tests.export.scoring.watch.made_up import APART, batch, drawn, log_odds_of, reference


@pytest.mark.parametrize("share", [0.005, 0.06, 0.3, 0.8])
def test_intervals_cover_the_share_that_moved(share):
    # Each with its own training set: an interval that forgot how little is known of it would cover less.
    covered = given = 0
    for seed in range(60):
        kept = reference(seed)
        random = np.random.default_rng(1000 + seed)
        found = estimate_share(kept, batch(kept, random, 300, share).log_odds)
        if found.figure is not None:
            given += 1
            covered += found.figure.low <= share <= found.figure.high
    assert given >= 50
    assert covered >= 0.9 * given


def test_many_images_tell_the_share_closely():
    kept, random = reference(), np.random.default_rng(5)
    found = estimate_share(kept, batch(kept, random, 20_000, 0.2).log_odds)
    assert found.figure is not None
    assert found.figure.value == pytest.approx(0.2, abs=0.05)
    assert found.figure.high - found.figure.low < 0.2


def test_no_minority_image_is_a_share_whose_interval_reaches_zero():
    kept, random = reference(), np.random.default_rng(6)
    found = estimate_share(kept, batch(kept, random, 400, 0.0).log_odds)
    assert found.figure is not None
    assert found.figure.low == 0.0
    assert 0.0 < found.figure.high < 0.05


def test_no_figure_where_the_two_ways_disagree():
    kept, random = reference(), np.random.default_rng(7)
    _, score = drawn(random, 400, 0)
    # All scores in the middle, which neither class had: no cut counts them, but likelihood finds a mixture.
    odd = log_odds_of(np.full(400, APART * 0.62) + 0.05 * score[:400])
    found = estimate_share(kept, fine_counts(odd))
    assert found.figure is None
    assert "disagree" in found.why_not
    assert found.em is not None
    assert found.bbse is not None


def test_no_figure_where_the_model_cannot_tell_the_classes_apart():
    kept = reference()
    assert kept.log_odds is not None
    alike = replace(kept, log_odds=np.stack([kept.log_odds[:, 0], kept.log_odds[:, 0]], axis=1))
    found = estimate_share(alike, kept.log_odds[:, 0].sum(axis=0))
    assert found.figure is None
    assert "too poorly" in found.why_not


def test_no_figure_for_few_images_or_without_a_reference():
    kept = reference()
    few = np.zeros(N_FINE, dtype=np.int64)
    few[100] = 19
    assert estimate_share(kept, few).why_not == "19 scored images are too few; 20 are needed."
    assert estimate_share(replace(kept, log_odds=None, no_share="why."), few).why_not == "why."


def test_equal_batches_give_equal_figures():
    kept, random = reference(), np.random.default_rng(8)
    counts = batch(kept, random, 200, 0.1).log_odds
    assert estimate_share(kept, counts) == estimate_share(kept, counts)


def test_images_of_few_groups_widen_the_interval():
    kept, random = reference(), np.random.default_rng(9)
    counts = batch(kept, random, 2_000, 0.3).log_odds
    alone = estimate_share(kept, counts).figure
    grouped = estimate_share(replace(kept, independent=(0.2, 0.2)), counts).figure
    assert alone is not None
    assert grouped is not None
    assert grouped.high - grouped.low > alone.high - alone.low
