"""Mislabelled rows among the majority are kept out of the bank, by training rows alone."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from contracts.errors import DataError
from contracts.member import FitContext
from oneclass.patchcore.contamination import robust_deviations, rows_to_leave_out
from oneclass.patchcore.member import PatchCore
from oneclass.patchcore.settings import PatchCoreSettings
from tests.rows import relabelled, scrambled, synthetic_rows

RULE = {"bank_size": 400, "pca_dim": 6, "contamination_z": 3.5}


def with_flipped_labels(n_flipped=8, strength=3.0):
    """Majority rows, some of which are minority rows with the wrong label, and which those are."""
    rows = synthetic_rows((100, 40), seed=3, strength=strength)
    labels = rows.labels.copy()
    flipped = np.flatnonzero(labels == 1)[:n_flipped]
    labels[flipped] = 0
    return relabelled(rows, labels), flipped


def test_flipped_rows_are_left_out_and_the_bank_is_the_better_for_it():
    rows, flipped = with_flipped_labels()
    new = synthetic_rows((80, 80), seed=4, strength=3.0)
    said, kept = [], {}
    aurocs = {}
    for name, settings in (("kept", {**RULE, "contamination_z": None}), ("left out", RULE)):
        context = FitContext(0, report=said.append, keep=kept.__setitem__)
        member = PatchCore(PatchCoreSettings(**settings)).fit(rows, context)
        aurocs[name] = roc_auc_score(new.labels, member.score(new)[:, 0])
        in_bank = set(member.origin.sha256.tolist()) & set(rows.digests[flipped].tolist())
        assert bool(in_bank) == (name == "kept")
    assert aurocs["left out"] > aurocs["kept"] + 0.02
    left_out = kept["left-out.txt"].decode().split()
    assert set(rows.digests[flipped]) <= set(left_out)
    assert said == [
        f"{len(left_out)} of 108 majority images excluded from the bank: more than 3.5 robust standard "
        "deviations above the median in inner cross-fitting."
    ]


@pytest.mark.parametrize("seed", range(3))
def test_clean_rows_lose_few(seed):
    rows = synthetic_rows((150, 0), seed=seed)
    assert len(rows_to_leave_out(rows, PatchCoreSettings(**RULE), seed)) <= 0.03 * 150


def test_the_farthest_go_first_and_no_more_than_the_share():
    rows, flipped = with_flipped_labels(20)
    normal = rows.subset(np.flatnonzero(rows.labels == 0))
    settings = PatchCoreSettings(**RULE, contamination_most=0.05)
    left_out = rows_to_leave_out(normal, settings, 0)
    assert len(left_out) == 6
    deviations = robust_deviations(normal, settings, 0)
    assert set(left_out) == set(np.argsort(-deviations)[:6])
    assert set(normal.positions[left_out]) <= set(flipped)


def test_off_by_default_and_deterministic():
    rows, _ = with_flipped_labels()
    normal = rows.subset(np.flatnonzero(rows.labels == 0))
    assert len(rows_to_leave_out(normal, PatchCoreSettings(), 0)) == 0
    settings = PatchCoreSettings(**RULE)
    assert np.array_equal(rows_to_leave_out(normal, settings, 5), rows_to_leave_out(normal, settings, 5))


def test_a_row_is_judged_without_the_rows_of_its_own_half():
    """Another row of the half may move median and spread, but no score, so no rank of the others."""
    rows = synthetic_rows((60, 0))
    settings = PatchCoreSettings(**RULE)
    first = np.random.default_rng([0, 1]).permutation(np.arange(60))[:30]
    before = robust_deviations(rows, settings, 0)
    other = robust_deviations(scrambled(rows, first[:1]), settings, 0)
    same_half = np.setdiff1d(first, first[:1])
    assert np.array_equal(np.argsort(before[same_half]), np.argsort(other[same_half]))


def test_too_few_groups_is_an_error():
    rows = synthetic_rows((3, 0))
    with pytest.raises(DataError, match=r"contamination_z needs at least 4 groups of majority images, got 3"):
        PatchCore(PatchCoreSettings(**RULE)).fit(rows, FitContext(0))
