"""Triage: what is promised is kept, what cannot be is refused, and a budget is kept by the best rates."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from contracts.errors import DataError, ModelError, UsageError
from contracts.triage import FAIL, NOVEL, PASS, REVIEW, triage_of
from ensemble.conformal import ConformalClass
from ensemble.fitted import FittedEnsemble
from ensemble.nested import cross_fitted
from ensemble.pipeline import fit_ensemble, fit_fusion
from ensemble.triage import TriageLevels, fit_levels, parse_triage, require_support, triage_sentence
from ensemble.without_labels import fit_without_labels


def both(normal, minority):
    """P-values of fused scores, of normal and of minority calibration scores."""
    return (
        ConformalClass.fit(normal, np.arange(len(normal))),
        ConformalClass.fit(-minority, np.arange(len(minority)), "minority"),
    )


def test_the_four_sets():
    p_normal = np.array([0.5, 0.01, 0.5, 0.01, 0.05])
    p_minority = np.array([0.01, 0.5, 0.5, 0.01, 0.02])
    # A p-value at its level does not reach above it.
    assert triage_of(p_normal, p_minority, 0.02, 0.05).tolist() == [PASS, FAIL, REVIEW, NOVEL, NOVEL]


def test_p_minority_is_p_normal_with_the_classes_exchanged():
    normal, minority = np.array([0.0, 1.0, 2.0]), np.array([2.0, 3.0, 3.0, 5.0])
    _, p_minority = both(normal, minority)
    assert p_minority(-np.array([1.9, 2.0, 3.0, 6.0])).tolist() == [0.2, 0.4, 0.8, 1.0]
    assert p_minority.sentence.startswith("p_minority places an image among 4 minority images")
    assert ConformalClass.from_json(json.loads(json.dumps(p_minority.to_json()))) == p_minority


def test_error_rates_are_kept_on_average():
    """Of exchangeable images no more than asked are passed or fail; overlapping classes leave REVIEW."""
    rng = np.random.default_rng(0)
    passed, failed, reviewed = [], [], []
    for _ in range(300):
        normal, minority = both(rng.normal(0, 1, 60), rng.normal(1.5, 1, 25))
        for scores, of in ((rng.normal(1.5, 1, 40), passed), (rng.normal(0, 1, 40), failed)):
            codes = triage_of(normal(scores), minority(-scores), 0.1, 0.05)
            of.append(np.mean(codes == (PASS if of is passed else FAIL)))
            reviewed.append(np.mean(codes == REVIEW))
    assert np.mean(passed) <= 0.1
    assert np.mean(failed) <= 0.05
    # Not by passing and failing nothing: 2 of 26 and 3 of 61 are the nearest levels below.
    assert np.mean(passed) > 0.06
    assert np.mean(failed) > 0.035
    assert np.mean(reviewed) > 0.3


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("auto", (None, None, None)),
        ("miss_rate<=.01, false_alarms<=0.02", (0.01, 0.02, None)),
        ("review<=5e-2", (None, None, 0.05)),
    ],
)
def test_rules_are_read(text, rates):
    rule = parse_triage(text)
    assert (rule.miss_rate, rule.false_alarms, rule.review) == rates


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reviw<=0.05", "triage 'reviw<=0.05' does not exist. Did you mean 'review<=0.05'?"),
        ("review<=1.5", "1.5 is no share between 0 and 1"),
        ("miss_rate<=0.01,false_alarms<=e", "e is no share"),
        ("miss_rate<=0.01", "Use one of: auto"),
    ],
)
def test_other_rules_are_refused(text, said):
    with pytest.raises(UsageError) as error:
        parse_triage(text)
    assert said in str(error.value)


def test_what_so_few_images_cannot_support_is_refused_with_the_number_that_would_do():
    normal, minority = both(np.arange(60.0), np.arange(20.0))
    require_support(parse_triage("miss_rate<=0.05,false_alarms<=0.02"), normal, minority, "bad")
    with pytest.raises(DataError) as error:
        require_support(parse_triage("miss_rate<=0.01,false_alarms<=0.02"), normal, minority, "bad")
    assert str(error.value) == (
        "triage 'miss_rate<=0.01,false_alarms<=0.02': a miss rate of 0.01 takes 99 independent labelled "
        "images of 'bad', and there are 20. Ask for 0.048 or more, or label 79 more."
    )
    with pytest.raises(DataError, match=r"share of false alarms of 0\.01 takes 99 .* of 'normal', and there"):
        require_support(parse_triage("miss_rate<=0.05,false_alarms<=0.01"), normal, minority, "bad")


def test_without_a_rule_the_least_rates_stand_in_for_five_per_cent():
    rng = np.random.default_rng(1)
    scores, is_minority = rng.normal(size=47), np.arange(47) < 7
    normal, minority = both(scores[~is_minority], scores[is_minority])
    levels = fit_levels(parse_triage("auto"), scores, is_minority, normal, minority, 0.1)
    assert levels.rates == (pytest.approx(1 / 8), 0.05)
    assert "so few labelled images support no smaller rates" in triage_sentence(levels, "bad")


def test_a_budget_is_kept_by_the_best_rates():
    """Against a slow search over all pairs of rates."""
    rng = np.random.default_rng(2)
    is_minority = np.arange(60) < 20
    scores = rng.normal(size=60) + 1.5 * is_minority
    normal, minority = both(scores[~is_minority], scores[is_minority])
    p_normal, p_minority, prior = normal(scores), minority(-scores), 0.2

    def people(miss_rate, false_alarms):
        left = triage_of(p_normal, p_minority, miss_rate, false_alarms) >= REVIEW
        return prior * left[is_minority].mean() + (1 - prior) * left[~is_minority].mean()

    for budget in (0.02, 0.1, 0.3):
        levels = fit_levels(parse_triage(f"review<={budget}"), scores, is_minority, normal, minority, prior)
        pairs = itertools.product(np.unique(p_minority), np.unique(p_normal))
        best = min(a + b for a, b in pairs if people(a, b) <= budget + 1e-12)
        assert people(*levels.rates) <= budget + 1e-12
        assert sum(levels.rates) == pytest.approx(best)
    assert "leave at most 0.3 of the images to people" in triage_sentence(levels, "bad")


def test_an_ensemble_keeps_it(make_table):
    table = make_table(300, 36)
    fitted = fit_ensemble(table, triage_rule="miss_rate<=0.1,false_alarms<=0.02")
    assert fitted.levels == TriageLevels(0.1, 0.02, "miss_rate<=0.1,false_alarms<=0.02")
    again = FittedEnsemble.from_json(json.loads(json.dumps(fitted.to_json())))
    assert again.to_json() == fitted.to_json()
    assert again.levels == fitted.levels
    assert again.minority == fitted.minority
    codes = fitted.triage(table.scores)
    p_normal, p_minority = fitted.p_normal(table.scores), fitted.p_minority(table.scores)
    np.testing.assert_array_equal(codes, triage_of(p_normal, p_minority, 0.1, 0.02))
    low, high = fitted.p_minority_bounds(table.scores, 0.005)
    assert ((low <= p_minority) & (p_minority <= high)).all()
    assert np.mean(codes[table.labels == 1] == PASS) <= 0.15


def test_every_fold_judges_by_its_own_p_values(make_table):
    table = make_table(200, 40)

    def fit(rows):
        return {"one": fit_fusion(rows, "plain_mean")}

    fitted = cross_fitted(table, fit)["one"]
    expected = np.empty(len(table.labels), dtype=np.int64)
    for fold in np.unique(table.fold_of_row):
        mine = table.fold_of_row == fold
        expected[mine] = fit(table.rows(~mine))["one"].triage(table.scores[mine])
    np.testing.assert_array_equal(fitted.triage(table.scores), expected)


def test_more_classes_are_the_minority_against_the_rest(make_table_3):
    table = make_table_3()
    fitted = fit_ensemble(table)
    assert fitted.minority.images == int((table.labels == 2).sum())
    codes = fitted.triage(table.scores)
    assert np.mean(codes[table.labels < 2] == FAIL) <= 0.1


def test_without_labels_there_is_none(make_table):
    table = make_table(60, 0, strengths=(), anomaly_strengths=(1.0,))
    fitted = fit_without_labels(table, regime="normal_only")
    assert fitted.levels is None
    with pytest.raises(ModelError, match="no p_minority and no triage: no minority image is labelled"):
        fitted.triage(table.scores)
