"""What an epoch draws: quotas, rounds, spread, seeds, several processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervised.samplers import EpochSampler, class_quotas, draw_rows
from supervised.settings import SamplerSettings

KINDS = [
    "none",
    "undersample",
    "undersample_each_epoch",
    "oversample",
    "square_root",
    "class_balanced",
    "progressive",
]
LABELS = np.array([0] * 90 + [1] * 30 + [2] * 10)[np.random.default_rng(0).permutation(130)]


def sampler(kind, cap=1.0):
    return SamplerSettings(kind=kind, cap=cap)


@pytest.mark.parametrize(
    ("kind", "cap", "expected"),
    [
        ("none", 1.0, [90, 30, 10]),
        ("undersample", 1.0, [10, 10, 10]),
        ("undersample", 0.5, [20, 20, 10]),
        ("undersample_each_epoch", 0.1, [90, 30, 10]),
        ("oversample", 1.0, [90, 90, 90]),
        ("oversample", 0.5, [90, 45, 45]),
        ("class_balanced", 1.0, [43, 43, 43]),
        # Square roots 9.49, 5.48, 3.16 of 18.12 in all.
        ("square_root", 1.0, [68, 39, 23]),
    ],
)
def test_quotas(kind, cap, expected):
    assert class_quotas(sampler(kind, cap), np.array([90, 30, 10]), 0, 5).tolist() == expected


def test_progressive_sampling_goes_from_the_classes_own_shares_to_equal_ones():
    counts = np.array([90, 30, 10])
    shares = [class_quotas(sampler("progressive"), counts, epoch, 5) / 130 for epoch in range(5)]
    np.testing.assert_allclose(shares[0], counts / 130, atol=0.01)
    np.testing.assert_allclose(shares[2], (counts / 130 + 1 / 3) / 2, atol=0.01)
    np.testing.assert_allclose(shares[4], 1 / 3, atol=0.01)
    assert class_quotas(sampler("progressive"), counts, 0, 1).tolist() == [90, 30, 10]


@pytest.mark.parametrize("kind", KINDS)
def test_draws_hold_their_quotas_and_no_row_twice_before_all_once(kind):
    drawn = draw_rows(sampler(kind), LABELS, 3, 1, 2, 5)
    counts = np.bincount(LABELS)
    quotas = class_quotas(sampler(kind), counts, 2, 5)
    assert np.bincount(LABELS[drawn]).tolist() == quotas.tolist()
    times = np.bincount(drawn, minlength=len(LABELS))
    for k in range(3):
        assert np.ptp(times[k == LABELS]) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_draws_follow_seed_and_epoch(kind):
    one, same = (draw_rows(sampler(kind), LABELS, 3, 1, 2, 5) for _ in range(2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, draw_rows(sampler(kind), LABELS, 3, 1, 3, 5))
    assert not np.array_equal(one, draw_rows(sampler(kind), LABELS, 3, 2, 2, 5))


def test_undersampling_once_keeps_its_choice_and_each_epoch_chooses_anew():
    def chosen(kind, epoch, seed=1):
        return frozenset(draw_rows(sampler(kind), LABELS, 3, seed, epoch, 5).tolist())

    assert len({chosen("undersample", epoch) for epoch in range(5)}) == 1
    assert chosen("undersample", 0) != chosen("undersample", 0, seed=2)
    each = [chosen("undersample_each_epoch", epoch) for epoch in range(30)]
    assert len(set(each)) == 30
    assert len(frozenset.union(*each)) > 120  # in the end nearly every row has been seen


def test_every_batch_holds_the_classes_in_about_the_quotas_ratio():
    drawn = draw_rows(sampler("class_balanced"), LABELS, 3, 1, 0, 5)
    for start in range(0, 120, 15):
        counts = np.bincount(LABELS[drawn[start : start + 15]], minlength=3)
        assert counts.min() >= 3, counts


@pytest.mark.parametrize("kind", KINDS)
def test_several_processes_share_one_draw(kind):
    whole = EpochSampler(sampler(kind), LABELS, 3, 1, 5)
    parts = [EpochSampler(sampler(kind), LABELS, 3, 1, 5, rank, 3) for rank in range(3)]
    for each in (whole, *parts):
        each.set_epoch(2)
    lists = [list(part) for part in parts]
    assert {len(part) for part in parts} == {len(lists[0])}
    interleaved = [row for rows in zip(*lists, strict=True) for row in rows]
    assert interleaved == list(whole)[: len(interleaved)]
    assert len(whole) - len(interleaved) < 3


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=5),
    kind=st.sampled_from(KINDS),
    cap=st.floats(0.05, 1.0),
    seed=st.integers(0, 5),
)
def test_any_counts_draw_every_class(counts, kind, cap, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    drawn = draw_rows(sampler(kind, cap), labels, len(counts), seed, 0, 3)
    assert set(labels[drawn].tolist()) == set(range(len(counts)))
    if kind == "oversample":
        assert np.bincount(labels[drawn]).min() >= round(cap * max(counts))
