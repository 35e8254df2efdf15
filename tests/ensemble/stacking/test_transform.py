"""Stacker inputs: comparable, finite, exact after a round trip; and the checks on the table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from contracts.errors import DataError, ModelError
from contracts.scores import ScoreColumn
from ensemble.stacking.training_scores import TrainingScores
from ensemble.stacking.transform import ColumnTransform


def test_columns_are_standardised_and_monotone(make_table):
    training = TrainingScores.from_table(make_table())
    transform = ColumnTransform.fit(training)
    z = transform(training.scores)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-12)
    for m in range(3):
        order = np.argsort(training.scores[:, m], kind="stable")
        assert (np.diff(z[order, m]) >= 0).all()


def test_anomaly_scores_are_taken_as_they_are(make_table):
    """Their members have taken the logarithm; another one would bend the scale, and fail below 0."""
    training = TrainingScores.from_table(make_table())
    assert training.scores[:, 2].min() < 0
    z = ColumnTransform.fit(training)(training.scores)
    assert np.corrcoef(z[:, 2], training.scores[:, 2])[0, 1] == pytest.approx(1.0, abs=1e-12)


def test_all_zero_and_constant_columns_become_zero(make_table):
    table = make_table()
    scores = table.scores.copy()
    scores[:, 1] = 7.0
    scores[:, 2] = 0.0
    training = TrainingScores.from_table(replace(table, scores=scores))
    z = ColumnTransform.fit(training)(training.scores)
    np.testing.assert_array_equal(z[:, 1:], 0.0)


def test_logits_of_a_block_keep_their_order(make_table_3):
    training = TrainingScores.from_table(make_table_3())
    transform = ColumnTransform.fit(training)
    z = transform(training.scores)
    np.testing.assert_array_equal(z[:, :3].argmax(axis=1), training.scores[:, :3].argmax(axis=1))
    assert len(set(transform.std[:3])) == 1
    assert len(set(transform.mean[:3])) == 1


def test_the_scale_of_a_block_ignores_what_softmax_ignores(make_table_3):
    """A constant added to all logits of a row changes no probability, so it must not change the scale."""
    table = make_table_3()
    scores = table.scores.copy()
    scores[:, :3] += 20 * np.random.default_rng(0).normal(size=(len(scores), 1)).astype(np.float32)
    plain = ColumnTransform.fit(TrainingScores.from_table(table))
    shifted = ColumnTransform.fit(TrainingScores.from_table(replace(table, scores=scores)))
    np.testing.assert_allclose(shifted.std, plain.std, rtol=1e-5)


def test_json_round_trip_is_exact(make_table):
    training = TrainingScores.from_table(make_table())
    transform = ColumnTransform.fit(training)
    again = ColumnTransform.from_json(json.loads(json.dumps(transform.to_json())))
    np.testing.assert_array_equal(transform(training.scores), again(training.scores))


def test_wrong_scores_are_refused(make_table):
    training = TrainingScores.from_table(make_table())
    transform = ColumnTransform.fit(training)
    with pytest.raises(ModelError, match=r"shape \(5, 2\), but \[N, 3\] expected"):
        transform(np.zeros((5, 2)))
    with pytest.raises(ModelError, match="column 1 holds NaN"):
        transform(np.array([[0.0, np.nan, 1.0]]))


def test_table_checks_name_what_is_wrong(make_table):
    table = make_table(40, 10)
    scores = table.scores.copy()
    scores[3, 1] = np.nan
    with pytest.raises(ModelError, match="scores of 'cnn1': 1 of 50 rows have none"):
        TrainingScores.from_table(replace(table, scores=scores))
    scores = table.scores.copy()
    scores[3, 1] = np.inf
    with pytest.raises(ModelError, match="scores of 'cnn1': some are infinite"):
        TrainingScores.from_table(replace(table, scores=scores))
    with pytest.raises(ModelError, match="50 rows belong to no fold"):
        TrainingScores.from_table(replace(table, fold_of_row=np.full(50, -1)))
    with pytest.raises(ModelError, match="group 0 lies in two folds"):
        TrainingScores.from_table(replace(table, groups=np.arange(50) // 2))
    one_fold = np.where(table.labels == 0, 2, table.fold_of_row)
    with pytest.raises(DataError, match="class 'good' has 40 rows, all in fold 2"):
        TrainingScores.from_table(replace(table, fold_of_row=one_fold))
    with pytest.raises(DataError, match="class 'bad' has 0 rows, in no fold"):
        TrainingScores.from_table(replace(table, labels=np.zeros(50, int)))
    with pytest.raises(ModelError, match="no columns"):
        TrainingScores.from_table(replace(table, scores=np.empty((50, 0), np.float32), columns=()))


def test_a_member_with_the_wrong_number_of_columns_is_named(make_table, make_table_3):
    table = make_table(40, 10)
    twice = tuple(ScoreColumn("cnn", "supervised", "logit") for _ in range(3))
    with pytest.raises(ModelError, match="scores of 'cnn': 3 columns of logit for 2 classes, but 1"):
        TrainingScores.from_table(replace(table, columns=twice))
    three = make_table_3()
    lacking = replace(three, columns=three.columns[1:], scores=three.scores[:, 1:].copy())
    with pytest.raises(ModelError, match="scores of 'cnn0': 2 columns of logit for 3 classes, but 3"):
        TrainingScores.from_table(lacking)
