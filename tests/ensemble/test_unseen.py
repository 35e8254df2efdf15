"""The gate on kinds never seen: who replaces the stack, on what evidence, and that judged rows stay out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from contracts.scores import ScoreTable
from ensemble.pipeline import fit_ensemble
from ensemble.stacking.training_scores import TrainingScores
from ensemble.stacking.weights import fit_guarded, fit_single, fit_stack
from ensemble.unseen import FEWEST_GROUPS, UnseenKinds, decide_on_unseen

SUPERVISED, ONECLASS = 0, 1


@pytest.fixture(scope="module")
def oof(make_table) -> ScoreTable:
    """A supervised member that ranks known kinds much better than the one-class member."""
    return make_table(n_neg=150, n_pos=40, strengths=(3.0,), anomaly_strengths=(1.6,), seed=3)


def unseen_of(oof: ScoreTable, blind: int | None) -> UnseenKinds:
    """Rows judged without their kind: two kinds, one for each half of the folds; one member may be blind."""
    kind = np.where(oof.labels == 1, oof.groups % 2, -1)
    scores = np.array(oof.scores)
    if blind is not None:
        rng = np.random.default_rng(0)
        scores[oof.labels == 1, blind] = scores[rng.choice(np.flatnonzero(oof.labels == 0), 40), blind]
    judged_in = np.where(kind < 0, oof.fold_of_row, kind)
    learns = {
        fold: oof.row_ids[(oof.fold_of_row != fold) & (kind != fold % 2)]
        for fold in np.unique(oof.fold_of_row).tolist()
    }
    left_out = {fold: f"kind {fold % 2}" for fold in learns}
    return UnseenKinds(replace(oof, scores=scores, fold_of_row=judged_in), learns, left_out)


def test_a_stack_that_is_blind_to_new_kinds_is_drawn_back(oof):
    fitted = fit_ensemble(oof, unseen=unseen_of(oof, SUPERVISED))
    assert fitted.method == "guarded_stack"
    assert "shown to be better with a quarter of its weight drawn back" in fitted.sentences[1]
    training = TrainingScores.from_table(oof)
    stack, guarded = fit_stack(training), fit_guarded(training)
    assert np.array_equal(fitted.combination.weights, guarded.weights)
    share = [w.weights[ONECLASS, 0] / w.weights.sum() for w in (stack, guarded)]
    assert share[1] > share[0] + 0.03


@pytest.mark.parametrize("blind", [None, ONECLASS])
def test_a_stack_that_ranks_new_kinds_as_well_stays(oof, blind):
    fitted = fit_ensemble(oof, unseen=unseen_of(oof, blind))
    alone = fit_ensemble(oof)
    assert fitted.method == alone.method == "stack"
    assert np.array_equal(fitted.combination.weights, alone.combination.weights)
    assert "not shown to be better" in fitted.sentences[1]


@pytest.mark.parametrize(("blind", "kept"), [(SUPERVISED, "stack"), (ONECLASS, "single:cnn0")])
def test_a_member_that_is_better_on_known_kinds_must_hold_on_others(oof, blind, kept):
    evidence = unseen_of(oof, blind).of_rows(oof)
    assert evidence is not None
    method, sentence = decide_on_unseen(evidence, "single:cnn0", partial(fit_single, member="cnn0"), seed=0)
    assert method == kept
    assert f"'cnn0' is {'' if kept == 'stack' else 'not '}shown to be worse than the stack" in sentence


def test_judged_rows_and_absent_members_are_left_out_of_the_evidence(oof):
    unseen = unseen_of(oof, SUPERVISED)
    part = oof.rows(oof.fold_of_row != 2)
    evidence = unseen.of_rows(part)
    assert evidence is not None
    assert set(evidence.judged.row_ids) <= set(part.row_ids)
    for fold, training in evidence.training.items():
        assert len(training.labels) == np.isin(part.row_ids, unseen.learns[fold]).sum()
    one = replace(oof, columns=oof.columns[:1], scores=oof.scores[:, :1].copy())
    narrow = unseen.of_rows(one)
    assert narrow is not None
    assert narrow.judged.columns == one.columns
    assert "No one-class member" in fit_ensemble(one, unseen=unseen).sentences[1]


def test_a_handful_of_images_is_no_evidence(oof):
    few = oof.rows((oof.labels == 0) | (np.arange(len(oof.labels)) < 150 + FEWEST_GROUPS - 1))
    assert unseen_of(oof, None).of_rows(few) is None
    assert fit_ensemble(few, unseen=unseen_of(oof, SUPERVISED)).method == "stack"


def test_the_change_is_that_of_the_ranks(oof):
    evidence = unseen_of(oof, None).of_rows(oof)
    assert evidence is not None
    good, bad = evidence.is_minority.astype(float), 1.0 - evidence.is_minority
    assert evidence.auroc_change(good, bad, seed=0) == (1.0, 1.0, 1.0)
    stack = evidence.fused(fit_stack)
    assert evidence.auroc_change(stack, stack, seed=0) == (0.0, 0.0, 0.0)
    # What is added to all rows that a kind is ranked among moves none of them.
    moved = stack + np.where(evidence.kinds == "kind 0", 9.0, 0.0)
    assert evidence.auroc_change(moved, stack, seed=0) == (0.0, 0.0, 0.0)


def test_a_kind_of_most_images_says_nothing_about_kinds(oof):
    evidence = unseen_of(oof, None).of_rows(oof)
    assert evidence is not None
    first = evidence.kinds == "kind 0"
    # Of the second kind's images all but ten become the first's.
    move = np.flatnonzero(evidence.is_minority & ~first)[10:]
    kinds = evidence.kinds.copy()
    kinds[move] = "kind 0"
    lopsided = replace(evidence, kinds=kinds)
    stack = lopsided.fused(fit_stack)
    worse = np.where(kinds == "kind 0", -stack, stack)
    assert lopsided.auroc_change(worse, stack, seed=0) == (0.0, 0.0, 0.0)
    worse = np.where(kinds == "kind 1", -stack, stack)
    assert lopsided.auroc_change(worse, stack, seed=0)[0] < 0.0
