"""The whole way: gate, calibration, prior, threshold, save and load."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from contracts.errors import DataError, ModelError, UsageError
from ensemble.fitted import FittedEnsemble
from ensemble.out_of_fold import out_of_fold_probabilities
from ensemble.pipeline import SIMPLE_FUSIONS, fit_all, fit_ensemble, fit_fusion, fit_single
from ensemble.stacking.training_scores import filled_scores
from tests.evaluation.made_up import two_classes, values_of


def test_stack_is_kept_and_speaks(make_table):
    fitted = fit_ensemble(make_table(), deployment_prior=0.5)
    assert fitted.method == "stack"
    gate, calibrator, prior, threshold, normal, minority, triage = fitted.sentences
    assert gate.startswith("The stack is the ensemble")
    assert "platt map on 36 positives" in calibrator
    assert "minority share of 0.5" in prior
    assert "min_hter" in threshold
    assert "among 300 normal images" in normal
    assert "p_minority places an image among 36 minority images" in minority
    assert triage.startswith("Triage: on average at most 0.05 of new images of 'bad' are passed")
    assert fitted.trained_prior == pytest.approx(36 / 336)
    assert fitted.deployment_prior == 0.5


def test_dropped_stack_is_the_best_single_member(make_table):
    """Beside one strong member, eight that know nothing: shown to be better on twenty positives."""
    table = make_table(100, 20, strengths=(2.5,), anomaly_strengths=(0.0,) * 8, seed=3)
    fitted = fit_ensemble(table, deployment_prior=0.3)
    assert fitted.method == "single:cnn0"
    assert "'cnn0' alone is the ensemble" in fitted.sentences[0]
    alone = fit_single(table, "cnn0", deployment_prior=0.3)
    assert replace(fitted, sentences=fitted.sentences[1:]).to_json() == alone.to_json()


def with_one_positive(make_table, **options):
    """Its fold has no supervised scores, as nothing could be trained without it."""
    table = make_table(100, 1, **options)
    scores = table.scores.copy()
    supervised = [i for i, column in enumerate(table.columns) if column.kind == "supervised"]
    scores[np.ix_(table.fold_of_row == table.fold_of_row[table.labels == 1][0], supervised)] = np.nan
    return replace(table, scores=scores)


@pytest.mark.parametrize("rule", ["min_hter", "max_f1", "cost:1:10", "false_alarms<=0.05"])
def test_one_minority_image_is_enough(make_table, rule):
    table = with_one_positive(make_table, anomaly_strengths=(1.0, 1.5))
    fresh = make_table(200, 50, anomaly_strengths=(1.0, 1.5), seed=1)
    for name, fitted in fit_all(table, threshold_rule=rule).items():
        p = fitted.predict(fresh.scores)
        assert ((p > 0) & (p < 1)).all()
        assert np.isfinite(logit(fitted.threshold))
        assert roc_auc_score(fresh.labels, p) > (0.95 if name == "ensemble" else 0.7)
    said = " ".join(fitted.sentences)
    assert "Without the only independent image of 'bad' no cnn0, cnn1 could be trained, so 21 rows" in said
    assert "With 1 minority image the probability is rough" in said
    assert out_of_fold_probabilities(table, "stack").shape == (101, 2)


def test_what_stands_in_for_a_missing_score_adds_nothing(make_table):
    table = with_one_positive(make_table, anomaly_strengths=(1.0, 1.5))
    filled = filled_scores(table)
    missing = np.isnan(table.scores)
    np.testing.assert_array_equal(filled[~missing], table.scores[~missing])
    mean, std = np.nanmean(table.scores, axis=0), np.nanstd(table.scores, axis=0)
    standardised = (filled - mean) / std
    gaps = missing.any(axis=1)
    np.testing.assert_allclose(
        standardised[gaps].mean(axis=1), standardised[gaps, 2:].mean(axis=1), atol=1e-5
    )


def test_what_stands_in_for_a_missing_score_says_nothing_of_its_member(make_table):
    table = with_one_positive(make_table, anomaly_strengths=(1.0, 1.5))
    kinds = np.array([column.kind for column in table.columns])
    scores = table.scores.copy()
    scores[np.ix_(table.labels == 1, kinds == "oneclass")] -= 10.0
    doubtful = replace(table, scores=scores)
    steep, flat = (fit_single(each, "cnn0").combination for each in (table, doubtful))
    deviation = steep.transform.std[0], flat.transform.std[0]
    assert steep.weights[0, 0] / deviation[0] == pytest.approx(flat.weights[0, 0] / deviation[1], rel=0.05)
    # A member that did score it is judged by it.
    anomaly = int(np.flatnonzero(kinds == "oneclass")[0])
    name = table.columns[anomaly].member
    assert (
        fit_single(doubtful, name).combination.weights[anomaly, 0]
        < 0.8 * (fit_single(table, name).combination.weights[anomaly, 0])
    )


def test_supervised_members_alone_cannot_judge_the_only_minority_image(make_table):
    with pytest.raises(DataError, match="Add a one-class member to the recipe"):
        fit_ensemble(with_one_positive(make_table, anomaly_strengths=()))
    table = make_table(100, 2)
    scores = table.scores.copy()
    scores[table.fold_of_row == 0, 0] = np.nan
    with pytest.raises(ModelError, match="scores of 'cnn0': 21 of 102 rows have none"):
        fit_ensemble(replace(table, scores=scores))


def test_probabilities_are_calibrated_at_the_deployment_prior(make_table):
    fitted = fit_ensemble(make_table(2000, 150, strengths=(1.0, 0.7)), deployment_prior=0.5)
    fresh = make_table(1500, 1500, strengths=(1.0, 0.7), seed=1)
    p = fitted.predict(fresh.scores)
    values = values_of(two_classes(fresh.labels, p, fitted.threshold))
    assert values["ece"] < 0.05
    assert values["balanced_accuracy"] > 0.85
    # Without the shift the same model is far off on a 1:1 set.
    at_trained_prior = fitted.predict(fresh.scores, prior=fitted.trained_prior)
    assert values_of(two_classes(fresh.labels, at_trained_prior, 0.5))["ece"] > 0.1


def test_prior_at_run_time_replaces_the_deployment_prior(make_table):
    table = make_table()
    fitted = fit_ensemble(table, deployment_prior=0.5)
    shift = logit(fitted.predict(table.scores, prior=0.1)) - fitted.calibrated_logit(table.scores)
    np.testing.assert_allclose(shift, logit(0.1) - logit(fitted.trained_prior), atol=1e-6)
    with pytest.raises(UsageError, match="strictly between"):
        fitted.predict(table.scores, prior=1.5)


def test_the_default_prior_is_the_tables(make_table):
    fitted = fit_single(make_table(), "cnn0")
    assert fitted.deployment_prior == fitted.trained_prior


def test_decide_compares_inclusively_and_takes_a_threshold(make_table):
    table = make_table()
    fitted = fit_ensemble(table)
    p = fitted.predict(table.scores)
    np.testing.assert_array_equal(fitted.decide(table.scores), p >= fitted.threshold)
    np.testing.assert_array_equal(fitted.decide(table.scores, threshold=float(p[0])), p >= p[0])


def test_single_reads_only_its_own_column(make_table):
    table = make_table()
    fitted = fit_single(table, "cnn1")
    other = table.scores.copy()
    other[:, [0, 2]] = 1.0
    np.testing.assert_array_equal(fitted.predict(table.scores), fitted.predict(other))
    order = np.argsort(table.scores[:, 1])
    assert (np.diff(fitted.predict(table.scores)[order]) >= 0).all()


def test_fit_all_gives_every_row_of_the_table(make_table):
    table = make_table(150, 25)
    fitted = fit_all(table, deployment_prior=0.5, threshold_rule="recall>=0.9", seed=3)
    assert list(fitted) == ["cnn0", "cnn1", "patchcore0", *SIMPLE_FUSIONS, "ensemble"]
    alone = fit_single(table, "cnn0", deployment_prior=0.5, threshold_rule="recall>=0.9", seed=3)
    assert fitted["cnn0"].to_json() == alone.to_json()
    for model in fitted.values():
        assert model.threshold_rule == "recall>=0.9"
        assert model.predict(table.scores).shape == (175,)


@pytest.mark.parametrize("n_pos", [12, 36, 150, 520])
def test_round_trip_is_exact_for_every_calibrator(make_table, n_pos):
    table = make_table(600, n_pos, n_folds=3)
    fitted = fit_fusion(table, "plain_mean", deployment_prior=0.4)
    again = FittedEnsemble.from_json(json.loads(json.dumps(fitted.to_json())))
    np.testing.assert_array_equal(again.predict(table.scores), fitted.predict(table.scores))
    assert again.to_json() == fitted.to_json()
    assert again.columns == fitted.columns


def test_same_table_and_seed_give_the_same_document(make_table):
    one, two = fit_ensemble(make_table(), seed=4), fit_ensemble(make_table(), seed=4)
    assert json.dumps(one.to_json()) == json.dumps(two.to_json())


def test_the_order_of_rows_does_not_matter_for_the_weights(make_table):
    table = make_table(150, 25)
    order = np.random.default_rng(0).permutation(175)
    shuffled = replace(
        table,
        row_ids=table.row_ids[order],
        labels=table.labels[order],
        fold_of_row=table.fold_of_row[order],
        groups=table.groups[order],
        scores=table.scores[order],
    )
    one, two = fit_fusion(table, "stack"), fit_fusion(shuffled, "stack")
    np.testing.assert_allclose(one.predict(table.scores), two.predict(table.scores), atol=1e-5)


def test_three_classes(make_table_3):
    table = make_table_3()
    fitted = fit_ensemble(table, deployment_prior=(1 / 3, 1 / 3, 1 / 3), threshold_rule="min_hter")
    p, decision = fitted.predict(table.scores), fitted.decide(table.scores)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_array_equal(fitted.minority_probability(table.scores), p[:, 2])
    np.testing.assert_array_equal(decision, p.argmax(axis=1))  # equal shares: the most probable class
    assert np.mean(decision == table.labels) > 0.8
    again = FittedEnsemble.from_json(json.loads(json.dumps(fitted.to_json())))
    np.testing.assert_array_equal(again.predict(table.scores), p)
    np.testing.assert_array_equal(again.decide(table.scores), decision)
    assert again.to_json() == fitted.to_json()


def test_three_classes_are_decided_by_share_or_by_cost(make_table_3):
    table = make_table_3()
    alike = fit_fusion(table, "plain_mean", threshold_rule="min_hter")
    p = alike.predict(table.scores)
    assert alike.deployment_prior == alike.threshold == tuple(np.array([150, 80, 25]) / 255)
    np.testing.assert_array_equal(
        alike.decide(table.scores), (p / np.asarray(alike.threshold)).argmax(axis=1)
    )
    likely = fit_fusion(table, "plain_mean", threshold_rule="cost:1:1")
    np.testing.assert_array_equal(likely.decide(table.scores), p.argmax(axis=1))
    dear = fit_fusion(table, "plain_mean", threshold_rule="cost:1:5")
    # A missed row of the last class costs 5 and any other error 1: the least expected cost, computed.
    cost = np.array([[0, 1, 1], [1, 0, 1], [5, 5, 0]])  # [true, decided]
    np.testing.assert_array_equal(dear.decide(table.scores), (p @ cost).argmin(axis=1))
    recall = [np.mean((m.decide(table.scores) == 2)[table.labels == 2]) for m in (likely, dear, alike)]
    assert recall[0] < recall[1]
    assert recall[0] < recall[2]
    assert "shares of a 0.5882, b 0.3137, c 0.09804" in alike.sentences[1]


@pytest.mark.parametrize("rule", ["max_f1", "recall>=0.9", "false_alarms<=0.1"])
def test_rules_of_one_class_against_the_rest_are_refused_for_three(make_table_3, rule):
    with pytest.raises(UsageError, match=r"is for two classes, and there are 3\. Use min_hter"):
        fit_ensemble(make_table_3(), threshold_rule=rule)


def test_refusals_reach_the_caller(make_table):
    table = make_table(60, 12)
    with pytest.raises(DataError, match=r"one miss is already 8\.3%"):
        fit_ensemble(table, threshold_rule="recall>=0.95")
    with pytest.raises(UsageError, match="Did you mean 'max_f1'"):
        fit_ensemble(table, threshold_rule="maxf1")
    with pytest.raises(UsageError, match="Did you mean 'greedy'"):
        fit_fusion(table, "gredy")
    with pytest.raises(ModelError, match="format None"):
        FittedEnsemble.from_json({})


def test_only_the_module_file_needs_torch():
    script = (
        "import sys, ensemble.pipeline, ensemble.fitted, evaluation.comparison, evaluation.curves;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
