"""What a student is taught: no row's own fold has a part in what is said of the row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax

from contracts.scores import ScoreColumn, ScoreTable
from ensemble.calibration.fitting import fit_calibrator
from ensemble.out_of_fold import judging_probabilities, out_of_fold_probabilities
from ensemble.pipeline import fit_ensemble
from ensemble.stacking.stacker import METHODS, cross_fit, single_method
from ensemble.stacking.training_scores import TrainingScores


def table_of(n_classes: int = 2, n_rows: int = 240, n_folds: int = 4, seed: int = 0) -> ScoreTable:
    """Two members that know something of the labels; K logits each for more than two classes."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(
        n_classes, size=n_rows, p=np.linspace(2, 1, n_classes) / np.linspace(2, 1, n_classes).sum()
    )
    columns, scores = [], []
    for member, strength in (("one", 1.5), ("two", 0.7)):
        if n_classes == 2:
            columns.append(ScoreColumn(member, "supervised", "logit"))
            scores.append(strength * labels + rng.normal(size=n_rows))
            continue
        for k in range(n_classes):
            columns.append(ScoreColumn(member, "supervised", "logit", f"c{k}"))
            scores.append(strength * (labels == k) + rng.normal(size=n_rows))
    return ScoreTable(
        row_ids=np.array([f"{i}.png" for i in range(n_rows)]),
        labels=labels.astype(np.int64),
        fold_of_row=np.arange(n_rows) % n_folds,
        groups=np.arange(n_rows),
        columns=tuple(columns),
        scores=np.stack(scores, axis=1).astype(np.float32),
        class_names=tuple(f"c{k}" for k in range(n_classes)),
        manifest_digest="none",
    )


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("method", ["stack", "single:two"])
def test_it_is_the_obvious_loop_over_folds(n_classes, method):
    table = table_of(n_classes)
    p = out_of_fold_probabilities(table, method)
    training = TrainingScores.from_table(table)
    combine = METHODS["stack"] if method == "stack" else single_method(training, "two")
    for fold in range(4):
        others = training.rows(table.fold_of_row != fold)
        calibrator, _ = fit_calibrator(cross_fit(others, combine), others.labels)
        logits = calibrator(combine(others).logits(training.scores[table.fold_of_row == fold]))
        expected = (
            np.stack([expit(-logits), expit(logits)], axis=1) if n_classes == 2 else softmax(logits, axis=1)
        )
        np.testing.assert_allclose(p[table.fold_of_row == fold], expected, atol=1e-12)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)


def test_a_folds_labels_say_nothing_about_its_own_rows():
    table = table_of()
    mine = table.fold_of_row == 2
    labels = np.where(mine, 1 - table.labels, table.labels)
    was, now = (out_of_fold_probabilities(each, "stack") for each in (table, replace(table, labels=labels)))
    assert now[mine].tobytes() == was[mine].tobytes()
    assert (now[~mine] != was[~mine]).any()
    # The calibrated probabilities that the ensemble is fitted by do not have this: one calibrator for all.
    assert fit_ensemble(table).calibrator != fit_ensemble(replace(table, labels=labels)).calibrator


def test_two_folds_suffice():
    p = out_of_fold_probabilities(table_of(n_folds=2), "stack")
    assert ((p > 0) & (p < 1)).all()


def test_they_answer_for_the_rows_own_shares():
    table = table_of(n_rows=2000)
    assert out_of_fold_probabilities(table, "stack")[:, 1].mean() == pytest.approx(
        table.labels.mean(), abs=0.01
    )


def test_labels_are_judged_even_where_the_minority_lies_in_one_fold():
    whole = table_of(2)
    kept = (whole.labels == 0) | (whole.fold_of_row == 1)
    table = whole.rows(kept)
    p = judging_probabilities(table, "stack")
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert p[table.labels == 1, 1].mean() > 2 * p[table.labels == 0, 1].mean()


def test_labels_are_judged_out_of_fold_where_that_can_be():
    table = table_of(3)
    np.testing.assert_array_equal(
        judging_probabilities(table, "single:one"), out_of_fold_probabilities(table, "single:one")
    )
