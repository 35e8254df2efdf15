"""Threshold rules: parsing, slow references, stability, and sentences where a rule cannot be set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import f1_score

from contracts.errors import DataError, UsageError
from ensemble.threshold import N_REPLICATES, POSITIVES_AGAINST_THEORY, fit_threshold
from ensemble.threshold_rule import parse_rule
from evaluation.bootstrap import replicate_weights


def rows(n_neg=400, n_pos=36, seed=0, gap=2.5):
    rng = np.random.default_rng(seed)
    labels = np.r_[np.zeros(n_neg, int), np.ones(n_pos, int)]
    return rng.normal(size=n_neg + n_pos) + gap * labels - 1, labels


def fit(rule, scores, labels, *, prior=0.5, seed=0, groups=None):
    groups = np.arange(len(labels)) if groups is None else groups
    return fit_threshold(parse_rule(rule), scores, labels, groups, minority_prior=prior, seed=seed)


def rates(scores, labels, threshold):
    flagged = expit(scores) >= threshold
    return flagged[labels == 1].mean(), flagged[labels == 0].mean()


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("min_hter", "min_hter", 0),
        ("max_f1", "max_f1", 0),
        ("cost:1:10", "cost", 1 / 11),
        ("cost: 2 : 0.5", "cost", 0.8),
        ("recall>=0.95", "recall_floor", 0.95),
        ("recall >= .9", "recall_floor", 0.9),
        ("false_alarms<=1e-2", "false_alarm_budget", 0.01),
    ],
)
def test_rules_are_read(text, kind, value):
    rule = parse_rule(text)
    assert (rule.kind, rule.value) == (kind, pytest.approx(value))
    assert parse_rule(rule.text) == rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("min_htr", "Did you mean 'min_hter'"),
        ("recal>=0.95", "Did you mean 'recall>=0.95'"),
        ("banana", "Use one of: min_hter, max_f1, cost:1:10, recall>=0.95, false_alarms<=0.01"),
        ("cost:1", "Did you mean 'cost:1:10'"),
        ("cost:0:1", "costs must be above 0"),
        ("cost:1:-3", "costs must be above 0"),
        ("cost:1e999:1", "costs must be above 0"),
        ("recall>=1", "1 is not strictly between 0 and 1"),
        ("recall>=95", "95 is not strictly between 0 and 1"),
        ("false_alarms<=0", "0 is not strictly between 0 and 1"),
        ("recall>=1.2.3", "'1.2.3' is not a number"),
    ],
)
def test_wrong_rules_are_refused(text, words):
    with pytest.raises(UsageError, match=words):
        parse_rule(text)


def test_cost_needs_no_rows():
    fitted = fit("cost:1:10", np.empty(0), np.empty(0, int))
    assert fitted.threshold == pytest.approx(1 / 11)
    assert "cost:1:10" in fitted.sentence


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.8, 0.9, 0.95]), st.integers(20, 80))
def test_recall_floor_is_the_highest_threshold_that_keeps_it(seed, floor, n_pos):
    scores, labels = rows(100, n_pos, seed)
    scores = scores.round(1)
    threshold = fit(f"recall>={floor}", scores, labels).threshold
    assert rates(scores, labels, threshold)[0] >= floor - 1e-12
    higher = [s for s in np.unique(expit(scores)) if s > threshold]
    # The next score up still passes (the threshold lies below it); the one after it does not.
    assert all(rates(scores, labels, s)[0] < floor - 1e-12 for s in higher[1:])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.01, 0.05, 0.2, 0.99]), st.integers(100, 300))
def test_false_alarm_budget_is_the_lowest_threshold_that_keeps_it(seed, budget, n_neg):
    scores, labels = rows(n_neg, 30, seed)
    scores = scores.round(1)
    threshold = fit(f"false_alarms<={budget}", scores, labels).threshold
    assert rates(scores, labels, threshold)[1] <= budget + 1e-12
    lower = [s for s in np.unique(expit(scores)) if s < threshold]
    assert not lower or rates(scores, labels, lower[-1])[1] > budget + 1e-12


def slow_bagged(scores, labels, groups, cost, seed):
    """One replicate, one candidate at a time."""
    distinct = np.unique(scores)
    candidates = (distinct[1:] + distinct[:-1]) / 2
    minimisers = []
    for block in replicate_weights(labels, groups, n_replicates=N_REPLICATES, seed=seed):
        for w in block:
            w_pos, w_neg = w * (labels == 1), w * (labels == 0)
            values = [
                cost(w_pos[scores >= c].sum() / w_pos.sum(), w_neg[scores >= c].sum() / w_neg.sum())
                for c in candidates
            ]
            best = [c for c, v in zip(candidates, values, strict=True) if v <= min(values) + 1e-12]
            minimisers.append((best[0] + best[-1]) / 2)
    return np.mean(minimisers)


def slow_implied_by_f1(scores, labels, prior):
    """Expected F1 of every candidate, row by row, from the probabilities alone."""
    p, trained = expit(scores), labels.mean()
    weights = 1 / (p * trained / prior + (1 - p) * (1 - trained) / (1 - prior))
    distinct = np.unique(scores)[::-1]
    values = []
    for c in distinct:
        flagged = scores >= c
        hits = (weights * p)[flagged].sum()
        values.append(2 * hits / (weights[flagged].sum() + (weights * p).sum()))
    best = int(np.argmax(np.round(values, 12)))
    return (distinct[best] + distinct[best + 1]) / 2


@pytest.mark.parametrize("rule", ["min_hter", "max_f1"])
def test_threshold_equals_its_slow_version_with_ties_and_groups(rule):
    """The rows' own minimiser, bagged, drawn to what the probabilities imply."""
    scores, labels = rows(40, 9, gap=1.5)
    scores, groups = scores.round(), np.arange(49) // 2
    costs = {
        "min_hter": lambda recall, alarms: (1 - recall + alarms) / 2,
        "max_f1": lambda recall, alarms: -2 * 0.2 * recall / (0.2 * recall + 0.8 * alarms + 0.2),
    }
    fitted = fit(rule, scores, labels, prior=0.2, seed=3, groups=groups)
    slow = slow_bagged(scores, labels, groups, costs[rule], 3)
    implied = logit(0.2) if rule == "min_hter" else slow_implied_by_f1(scores, labels, 0.2)
    n = len(np.unique(groups[labels == 1]))
    slow = (n * slow + POSITIVES_AGAINST_THEORY * implied) / (n + POSITIVES_AGAINST_THEORY)
    assert logit(fitted.threshold) == pytest.approx(slow, abs=1e-9)


def test_on_one_minority_row_the_probabilities_decide_and_it_is_said():
    scores, labels = rows(200, 1)
    fitted = fit("min_hter", scores, labels, prior=0.01)
    assert logit(fitted.threshold) == pytest.approx(logit(0.01), abs=0.3)
    assert "With 1 minority rows it follows mostly from the probabilities" in fitted.sentence
    assert "mostly" not in fit("min_hter", *rows(200, 30)).sentence


def best_of_all(scores, labels, value):
    distinct = np.unique(scores)
    return max(value(scores >= c) for c in (distinct[1:] + distinct[:-1]) / 2)


@pytest.mark.parametrize("gap", [1.0, 2.5, 4.0])
def test_min_hter_is_close_to_the_optimum(gap):
    scores, labels = rows(1500, 300, gap=gap)

    def accuracy(flagged):
        return (flagged[labels == 1].mean() + 1 - flagged[labels == 0].mean()) / 2

    threshold = fit("min_hter", scores, labels).threshold
    assert accuracy(expit(scores) >= threshold) >= best_of_all(scores, labels, accuracy) - 0.01


@pytest.mark.parametrize("prior", [0.05, 0.5])
def test_max_f1_is_close_to_the_optimum_at_the_deployment_prior(prior):
    scores, labels = rows(600, 100)
    # Log-odds of the two Gaussians at the deployment prior.
    scores = 2.5 * (scores - 0.25) + logit(prior)
    weights = np.where(labels == 1, prior / 100, (1 - prior) / 600)

    def f1(flagged):
        hit = weights[flagged & (labels == 1)].sum()
        return 2 * hit / (weights[flagged].sum() + prior)

    threshold = fit("max_f1", scores, labels, prior=prior).threshold
    flagged = expit(scores) >= threshold
    assert f1(flagged) == pytest.approx(f1_score(labels, flagged, sample_weight=weights))
    assert f1(flagged) >= best_of_all(scores, labels, f1) - 0.03


def test_max_f1_cuts_higher_where_the_minority_is_rarer_and_min_hter_does_not():
    scores, labels = rows(600, 100)
    rare, even = (
        {
            rule: logit(fit(rule, scores + logit(prior), labels, prior=prior).threshold) - logit(prior)
            for rule in ("max_f1", "min_hter")
        }
        for prior in (0.02, 0.5)
    )
    assert rare["max_f1"] > even["max_f1"]
    assert rare["min_hter"] == pytest.approx(even["min_hter"], abs=1e-9)


def test_min_hter_is_steadier_than_the_plain_minimiser():
    """Over fresh samples of 36 positives the bagged threshold varies less than the sample's minimiser."""
    smooth, plain = [], []
    for seed in range(25):
        scores, labels = rows(400, 36, seed=seed, gap=2.0)
        smooth.append(logit(fit("min_hter", scores, labels).threshold))
        candidates = np.sort(scores)
        hter = [1 - (scores >= c)[labels == 1].mean() + (scores >= c)[labels == 0].mean() for c in candidates]
        plain.append(candidates[int(np.argmin(hter))])
    assert np.std(smooth) < 0.85 * np.std(plain)
    # The truth for unit Gaussians at -1 and 1 is 0.
    assert np.mean(smooth) == pytest.approx(0.0, abs=0.2)


def test_separated_classes_are_cut_half_way():
    scores = np.r_[np.linspace(-3, -1, 50), np.linspace(1, 3, 10)]
    labels = (scores > 0).astype(int)
    assert fit("min_hter", scores, labels).threshold == pytest.approx(0.5, abs=0.1)


def test_two_positives_can_be_set():
    scores, labels = rows(50, 2)
    assert 0 < fit("min_hter", scores, labels).threshold < 1


def test_seed_decides():
    scores, labels = rows()
    assert fit("min_hter", scores, labels, seed=1) == fit("min_hter", scores, labels, seed=1)


def test_sentence_counts_what_the_threshold_does():
    scores, labels = rows()
    fitted = fit("recall>=0.9", scores, labels)
    recall, alarms = rates(scores, labels, fitted.threshold)
    assert (
        f"{round(recall * 36)} of 36 minority rows with {round(alarms * 400)} false alarms" in fitted.sentence
    )


@pytest.mark.parametrize(
    ("rule", "n_neg", "n_pos", "words"),
    [
        ("min_hter", 50, 0, "'min_hter' cannot be set: there are no minority rows .* use cost:FP:FN"),
        ("max_f1", 50, 0, "no minority rows"),
        ("recall>=0.9", 50, 0, "no minority rows"),
        ("min_hter", 0, 5, "no majority rows"),
        ("false_alarms<=0.1", 0, 5, "no majority rows"),
        ("recall>=0.95", 50, 12, "with 12 minority rows one miss is already 8.3%; it needs at least 20"),
        ("recall>=0.9", 50, 1, "Add minority images, use cost:FP:FN"),
        ("false_alarms<=0.01", 50, 5, "one false alarm is already 2.00%.*false_alarms<=0.02"),
    ],
)
def test_rules_that_cannot_be_set_say_why(rule, n_neg, n_pos, words):
    scores, labels = rows(n_neg, n_pos)
    with pytest.raises(DataError, match=words):
        fit(rule, scores, labels)


def test_what_the_refusals_advise_works():
    scores, labels = rows(50, 12)
    fit("recall>=0.91", scores, labels)
    fit("false_alarms<=0.02", scores, labels)
    with pytest.raises(DataError, match=r"ask for recall>=0\.91"):
        fit("recall>=0.95", scores, labels)


def test_no_anomaly_budget_needs_no_positives():
    scores, labels = rows(200, 0)
    assert (
        rates(scores, np.r_[labels[:-1], 1], fit("false_alarms<=0.05", scores, labels).threshold)[1] <= 0.055
    )


def test_equal_scores_are_refused():
    with pytest.raises(DataError, match="all 20 scores are equal"):
        fit("min_hter", np.zeros(20), np.arange(20) % 2)
