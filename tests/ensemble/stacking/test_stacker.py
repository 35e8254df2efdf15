"""The stack and the simple fusions: no leaks, sensible choices, two classes and three."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.special import expit, logsumexp
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from contracts.errors import UsageError
from ensemble.stacking import quality
from ensemble.stacking.combination import LinearCombination
from ensemble.stacking.stacker import (
    GREEDY_STEPS,
    METHODS,
    best_member,
    cross_fit,
    single_method,
)
from ensemble.stacking.training_scores import TrainingScores
from ensemble.stacking.weights import alike, fit_single, fit_stack


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("classes", [2, 3])
def test_a_fold_is_predicted_without_looking_at_it(make_table, make_table_3, method, classes):
    """Garbage scores and labels in fold 1 change no logit of fold 1's predictor."""
    table = make_table(120, 25, n_folds=3) if classes == 2 else make_table_3((60, 40, 20), n_folds=3)
    training = TrainingScores.from_table(table)
    in_fold = training.folds == 1
    probe = training.scores[in_fold]

    def predictor_of_fold_1(rows):
        seen = []

        def spy(others):
            combination = METHODS[method](others)
            seen.append((set(others.folds.tolist()), combination))
            return combination

        cross_fit(rows, spy)
        return next(c for folds, c in seen if 1 not in folds)

    rng = np.random.default_rng(9)
    scores, labels = training.scores.copy(), training.labels.copy()
    scores[in_fold] = rng.random((in_fold.sum(), scores.shape[1])) * 50
    labels[in_fold] = rng.permutation(labels[in_fold])
    spoiled = replace(training, scores=scores, labels=labels)
    np.testing.assert_array_equal(
        predictor_of_fold_1(training).logits(probe), predictor_of_fold_1(spoiled).logits(probe)
    )


@pytest.mark.parametrize("method", list(METHODS))
def test_cross_fit_equals_a_loop_over_folds(make_table, method):
    training = TrainingScores.from_table(make_table(120, 25, n_folds=3))
    got = cross_fit(training, METHODS[method])
    for fold in range(3):
        inside = training.folds == fold
        want = METHODS[method](training.rows(~inside)).logits(training.scores[inside])
        np.testing.assert_array_equal(got[inside], want)


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_is_deterministic_and_ranks(make_table, method):
    training = TrainingScores.from_table(make_table())
    one, two = METHODS[method](training), METHODS[method](training)
    np.testing.assert_array_equal(one.weights, two.weights)
    assert (one.weights >= 0).all()
    assert roc_auc_score(training.labels, cross_fit(training, METHODS[method])) > 0.95


def test_the_stack_beats_its_members_where_they_complement_each_other(make_table):
    training = TrainingScores.from_table(
        make_table(1000, 100, strengths=(1.0, 1.0), anomaly_strengths=(1.5,))
    )
    stack = quality.quality(cross_fit(training, fit_stack), training.labels)
    for member in ("cnn0", "cnn1", "patchcore0"):
        single = quality.quality(cross_fit(training, partial(fit_single, member=member)), training.labels)
        assert stack.log_loss < single.log_loss
        assert stack.average_precision > single.average_precision


def test_a_useless_member_gets_little_weight_and_a_reversed_one_none(make_table):
    table = make_table(600, 80, strengths=(2.0, 0.0, -1.0), anomaly_strengths=())
    weights = fit_stack(TrainingScores.from_table(table)).weights[:, 0]
    assert weights[1] < 0.1 * weights[0]
    assert 0.0 <= weights[2] < 1e-3 * weights[0]


def test_weights_move_from_equal_ones_to_fitted_ones(make_table):
    """The fewer positives, the nearer to equal; from a single one upwards."""
    ratio = []
    for n_pos in (1, 3, 12, 100):
        table = make_table(600, n_pos, strengths=(1.5, 0.2), anomaly_strengths=(0.8,))
        strong, weak, _ = fit_stack(TrainingScores.from_table(table)).weights[:, 0]
        ratio.append(weak / strong)
    assert ratio[0] > 0.5
    assert ratio[0] > ratio[1] > ratio[2]
    assert ratio[3] < 0.15


def test_three_copies_of_a_member_count_as_one(make_table):
    table = make_table(300, 20, strengths=(1.5,), anomaly_strengths=(1.0,))
    copies = replace(
        table,
        columns=(
            *table.columns,
            *(replace(table.columns[0], member=f"again{i}") for i in range(2)),
        ),
        # Other scales and a little noise: ranks decide.
        scores=np.column_stack(
            [table.scores, 3 * table.scores[:, 0] + 1, table.scores[:, 0] + 0.01 * np.sin(np.arange(320))]
        ).astype(np.float32),
    )
    alone, thrice = (TrainingScores.from_table(each) for each in (table, copies))
    np.testing.assert_allclose(
        fit_stack(thrice).logits(thrice.scores), fit_stack(alone).logits(alone.scores), atol=0.05
    )


def test_members_are_alike_by_rank_and_through_others():
    rng = np.random.default_rng(0)
    base = rng.normal(size=400)
    scores = np.stack([base, rng.normal(size=400), np.exp(base), -base, np.zeros(400)], axis=1)
    assert alike(scores) == [[0, 2], [1], [3], [4]]
    chain = np.stack([base + 0.22 * i * rng.normal(size=400) for i in range(3)], axis=1)
    assert alike(chain[:, [0, 2]]) == [[0], [1]]


def test_best_single_is_the_best(make_table):
    training = TrainingScores.from_table(make_table(300, 40, strengths=(0.5, 2.5, 1.0)))
    assert best_member(training) == "cnn1"
    weights = METHODS["best_single"](training).weights[:, 0]
    assert weights[1] > 0
    assert np.count_nonzero(weights) == 1


def test_plain_mean_weights_members_alike(make_table):
    weights = METHODS["plain_mean"](TrainingScores.from_table(make_table())).weights[:, 0]
    np.testing.assert_allclose(weights, weights[0])


def test_greedy_shares_sum_to_one_and_leave_noise_out(make_table):
    training = TrainingScores.from_table(make_table(600, 80, strengths=(2.0, 1.8, 0.0), anomaly_strengths=()))
    greedy = METHODS["greedy"](training)
    singles = [fit_single(training, f"cnn{i}").weights[i, 0] for i in range(3)]
    shares = greedy.weights[:, 0] / singles
    assert shares.sum() == pytest.approx(1.0)
    assert shares[2] == pytest.approx(0.0)
    assert shares[0] > 0
    assert shares[1] > 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greedy_equals_a_slow_selection_over_bags(make_table, seed):
    """Caruana's loop as the paper tells it: a bag of member indices, its log loss from scratch each time."""
    training = TrainingScores.from_table(make_table(150, 25, strengths=(0.8, 1.2, 1.0), seed=seed))
    members = [block.member for block in training.blocks]
    candidates = [cross_fit(training, partial(fit_single, member=member)) for member in members]

    def loss(bag):
        return log_loss(training.labels, expit(np.mean([candidates[m] for m in bag], axis=0)))

    bag, bags = [], []
    for _ in range(GREEDY_STEPS):
        bag = min(([*bag, m] for m in range(len(members))), key=loss)
        bags.append(bag)
    best = min(bags, key=lambda b: (round(loss(b), 11), len(b)))
    want = np.mean([fit_single(training, members[m]).weights for m in best], axis=0)
    np.testing.assert_allclose(METHODS["greedy"](training).weights, want, atol=1e-9)
    assert len(set(best)) > 1


def test_a_reversed_member_shows_its_auroc(make_table):
    training = TrainingScores.from_table(make_table(300, 60, strengths=(2.0, -1.0)))
    auroc = roc_auc_score(training.labels, fit_single(training, "cnn1").logits(training.scores))
    assert auroc == pytest.approx(roc_auc_score(training.labels, training.scores[:, 1]))
    assert auroc < 0.2


@pytest.mark.parametrize("n_pos", [1, 2, 3, 5])
def test_very_few_positives_still_fit(make_table, n_pos):
    training = TrainingScores.from_table(make_table(100, n_pos))
    for method in METHODS.values():
        logits = cross_fit(training, method)
        assert np.isfinite(logits).all()
        assert np.abs(logits).max() < 50


def test_two_folds_are_enough(make_table):
    training = TrainingScores.from_table(make_table(100, 10, n_folds=2))
    for method in METHODS.values():
        assert np.isfinite(cross_fit(training, method)).all()


def test_unknown_member_names_the_nearest(make_table):
    with pytest.raises(UsageError, match="Did you mean 'patchcore0'"):
        single_method(TrainingScores.from_table(make_table()), "patchcore")


@pytest.mark.parametrize("method", list(METHODS))
def test_three_classes(make_table_3, method):
    training = TrainingScores.from_table(make_table_3())
    logits = cross_fit(training, METHODS[method])
    assert logits.shape == (255, 3)
    assert np.mean(logits.argmax(axis=1) == training.labels) > 0.8
    uniform = np.log(3)
    assert quality.log_loss(logits, training.labels) < 0.5 * uniform


@pytest.mark.parametrize("strengths", [(), (2.0,)])
def test_three_classes_with_one_kind_of_member_only(make_table_3, strengths):
    table = make_table_3(strengths=strengths, with_anomaly=not strengths)
    training = TrainingScores.from_table(table)
    for method in METHODS.values():
        assert np.isfinite(cross_fit(training, method)).all()


def test_three_class_logits_keep_one_slope_a_member(make_table_3):
    weights = fit_stack(TrainingScores.from_table(make_table_3())).weights
    np.testing.assert_array_equal(weights[:3], weights[0, 0] * np.eye(3))
    np.testing.assert_array_equal(weights[3:6], weights[3, 0] * np.eye(3))
    assert weights[6].argmax() == 2


def test_combination_round_trip_is_exact(make_table):
    training = TrainingScores.from_table(make_table())
    combination = fit_stack(training)
    again = LinearCombination.from_json(json.loads(json.dumps(combination.to_json())))
    np.testing.assert_array_equal(combination.logits(training.scores), again.logits(training.scores))


def test_quality_equals_scikit_learn():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=50) * 3, rng.integers(0, 2, 50)
    got = quality.quality(logits, labels)
    assert got.log_loss == pytest.approx(log_loss(labels, expit(logits)))
    assert got.average_precision == pytest.approx(average_precision_score(labels, logits))
    logits, labels = rng.normal(size=(60, 3)) * 3, np.arange(60) % 3
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    got = quality.quality(logits, labels)
    assert got.log_loss == pytest.approx(log_loss(labels, np.exp(log_p)))
    per_class = [average_precision_score(labels == k, log_p[:, k]) for k in range(3)]
    assert got.average_precision == pytest.approx(np.mean(per_class))
    assert np.isfinite(quality.log_loss(np.array([800.0]), np.array([0])))
