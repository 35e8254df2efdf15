"""Ensembles of normal images alone: what they decide, what they promise, what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from contracts.errors import DataError, ModelError, UsageError
from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from ensemble.pipeline import fit_ensemble
from ensemble.without_labels import fit_without_labels


@pytest.fixture(scope="module")
def normal_table(make_table):
    """250 normal images, two one-class members."""
    table = make_table(250, 0, strengths=(), anomaly_strengths=(1.0, 1.0))
    assert not table.labels.any()
    return table


def few(table: ScoreTable, n: int) -> ScoreTable:
    """Its first rows."""
    return replace(
        table,
        row_ids=table.row_ids[:n],
        labels=table.labels[:n],
        fold_of_row=table.fold_of_row[:n],
        groups=table.groups[:n],
        scores=table.scores[:n],
    )


def test_decides_by_p_normal(normal_table):
    fitted = fit_without_labels(normal_table, regime="normal_only")
    assert (fitted.method, fitted.threshold, fitted.threshold_rule) == (
        "mean_of_scores",
        0.01,
        "false_alarms<=0.01",
    )
    scores = np.array([[0.0, 0.0], [6.0, 6.0], [0.0, 6.0]], np.float32)
    assert fitted.decide(scores).tolist() == [0, 1, 1]
    assert fitted.decide(scores, threshold=1 / 300).tolist() == [0, 0, 0]
    assert fitted.p_normal(scores)[1] == 1 / 251
    decided = fitted.decide(normal_table.scores)
    assert decided.tolist() == (fitted.p_normal(normal_table.scores) <= 0.01).astype(int).tolist()


def test_members_count_alike(normal_table):
    fitted = fit_without_labels(normal_table, regime="normal_only")
    z = fitted.combination.transform(normal_table.scores)
    np.testing.assert_allclose(fitted.fused_scores(normal_table.scores), z.mean(axis=1))
    alone = fit_without_labels(normal_table, regime="normal_only", member="patchcore1")
    np.testing.assert_allclose(alone.fused_scores(normal_table.scores), z[:, 1])
    assert alone.method == "single:patchcore1"


def test_p_normal_comes_from_rows_left_out(normal_table):
    """No row may be judged by a scale that it helped to set."""
    fitted = fit_without_labels(normal_table, regime="normal_only")
    scores = normal_table.scores.copy()
    held_out = normal_table.fold_of_row == 0
    scores[held_out] = scores[held_out] * 1.5
    moved = fit_without_labels(replace(normal_table, scores=scores), regime="normal_only")
    in_sample = moved.fused_scores(scores)
    assert moved.normal.n == fitted.normal.n == 250
    assert max(moved.normal.knots) > in_sample.max() + 0.1


def test_has_no_probability_and_says_why(normal_table):
    fitted = fit_without_labels(normal_table, regime="normal_only")
    assert not fitted.has_probability
    assert "Probability needs labelled minority images; none is known yet." in fitted.sentences
    for ask in (fitted.predict, fitted.minority_probability, fitted.calibrated_logit):
        with pytest.raises(ModelError, match="needs labelled minority images; none is known yet"):
            ask(normal_table.scores)
    with pytest.raises(ModelError, match="gives no probability"):
        fitted.decide(normal_table.scores, prior=0.1)


def test_json_round_trip_is_exact(normal_table):
    fitted = fit_without_labels(normal_table, regime="unlabelled")
    again = FittedEnsemble.from_json(json.loads(json.dumps(fitted.to_json())))
    assert (again.normal, again.calibrator, again.trained_prior) == (fitted.normal, None, None)
    np.testing.assert_array_equal(again.p_normal(normal_table.scores), fitted.p_normal(normal_table.scores))


def test_few_images_raise_alpha_and_say_so(normal_table):
    fitted = fit_without_labels(few(normal_table, 19), regime="normal_only")
    assert fitted.threshold == 0.05
    sentence = fitted.sentences[-1]
    assert "A share of 0.01 false alarms needs 99 independent normal images, and there are 19" in sentence
    assert "where p_normal is at most 0.05" in sentence
    enough = fit_without_labels(few(normal_table, 99), regime="normal_only")
    assert enough.threshold == 0.01
    assert "needs" not in enough.sentences[-1]


def test_a_budget_of_ones_own(normal_table):
    fitted = fit_without_labels(normal_table, regime="normal_only", threshold_rule="false_alarms<=0.1")
    assert fitted.threshold == 0.1
    assert fitted.decide(normal_table.scores).mean() == pytest.approx(0.1, abs=0.02)


def test_unlabelled_images_are_said_to_be_so(normal_table):
    sentences = fit_without_labels(normal_table, regime="unlabelled").sentences
    assert sentences[-1].startswith("Nobody has said that these images are normal.")
    assert not any(
        "Nobody" in each for each in fit_without_labels(normal_table, regime="normal_only").sentences
    )


def test_refuses_what_needs_labels(normal_table, make_table, make_table_3):
    with pytest.raises(
        DataError, match=r"'recall>=0\.95' cannot be set: it weighs misses, and no image of 'bad'"
    ):
        fit_without_labels(normal_table, regime="normal_only", threshold_rule="recall>=0.95")
    with pytest.raises(DataError, match="36 rows are labelled 'bad'"):
        fit_without_labels(make_table(), regime="normal_only")
    with pytest.raises(DataError, match="3 classes but no labelled image of 'c'"):
        fit_without_labels(make_table_3(), regime="normal_only")
    with pytest.raises(UsageError, match="no member 'patchcor0'"):
        fit_without_labels(normal_table, regime="normal_only", member="patchcor0")
    with pytest.raises(DataError, match="class 'good' has 1 rows, all in fold 0"):
        fit_without_labels(few(normal_table, 1), regime="normal_only")
    with pytest.raises(DataError, match="class 'bad' has 0 rows"):
        fit_ensemble(normal_table)


def test_with_labels_p_normal_rests_on_normal_rows(make_table, make_table_3):
    fitted = fit_ensemble(make_table(300, 36))
    assert (fitted.normal.n, fitted.has_probability) == (300, True)
    assert fitted.sentences[-3].startswith("p_normal places an image among 300 normal images")
    assert fitted.sentences[-2].startswith("p_minority places an image among 36 minority images")
    table = make_table_3()
    three = fit_ensemble(table)
    assert three.normal.n == 230
    p = three.p_normal(table.scores)
    assert p.shape == (255,)
    assert p[table.labels == 2].mean() < p[table.labels != 2].mean() / 2
