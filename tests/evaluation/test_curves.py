"""Curves against slow, obvious versions of their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from contracts.errors import DataError, UsageError
from evaluation.curves import (
    FALSE_ALARM_RATES,
    PROBABILITY_COSTS,
    RECALLS,
    THRESHOLDS,
    WeightedCurves,
    curves,
    net_benefit_of_flagging_all,
    threshold_of_probability_cost,
)
from evaluation.rows import Rows, class_probabilities, ece_bin_of_row
from tests.evaluation.made_up import COUNTS_OF, made_up

PRIOR = 0.2


def weighted(labels: np.ndarray, p: np.ndarray, prior: float | None) -> WeightedCurves:
    """Of two classes where ``p`` is ``[N]``."""
    return WeightedCurves(Rows.checked(labels, class_probabilities(p), labels), prior)


def curves_of(labels, groups, p_of_model, **settings):
    p_of_model = {name: class_probabilities(p) for name, p in p_of_model.items()}
    return curves(labels, groups, p_of_model, **settings)


def made_up_rows(seed: int, n: int = 90, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 3 == 0).astype(np.int64)
    p = np.clip(rng.normal(0.35 + 0.25 * labels, 0.2), 0.0, 1.0)
    return labels, np.round(p, 1) if ties else p


def repeated(labels: np.ndarray, p: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows written out as often as they were drawn."""
    return np.repeat(labels, counts), np.repeat(p, counts)


def slow_precision(labels: np.ndarray, p: np.ndarray) -> list[float]:
    values = []
    for recall in RECALLS:
        for threshold in sorted(set(p), reverse=True):
            flagged = p >= threshold
            if (flagged & (labels == 1)).sum() >= recall * labels.sum() - 1e-9:
                values.append(labels[flagged].mean())
                break
    return values


def slow_roc(labels: np.ndarray, p: np.ndarray) -> list[float]:
    fpr, tpr, _ = roc_curve(labels, p, drop_intermediate=False)
    values = []
    for rate in FALSE_ALARM_RATES:
        at = max(i for i in range(len(fpr)) if fpr[i] <= rate + 1e-12)
        if at + 1 < len(fpr) and rate > fpr[at]:
            part = (rate - fpr[at]) / (fpr[at + 1] - fpr[at])
            values.append(tpr[at] + part * (tpr[at + 1] - tpr[at]))
        else:
            values.append(tpr[at])
    return values


def slow_cost(labels: np.ndarray, p: np.ndarray) -> list[float]:
    """From costs that add up to 1: what is paid a row, as a share of what the worst decisions would cost."""
    values = []
    for probability_cost in PROBABILITY_COSTS:
        # Costs of which the prior makes this probability-cost.
        miss, false_alarm = probability_cost / PRIOR, (1 - probability_cost) / (1 - PRIOR)
        flagged = p >= false_alarm / (false_alarm + miss)
        missed, alarmed = 1 - flagged[labels == 1].mean(), flagged[labels == 0].mean()
        paid = PRIOR * miss * missed + (1 - PRIOR) * false_alarm * alarmed
        values.append(paid / (PRIOR * miss + (1 - PRIOR) * false_alarm))
    return values


def slow_net_benefit(labels: np.ndarray, p: np.ndarray) -> list[float]:
    values = []
    for threshold in THRESHOLDS:
        flagged = p >= threshold
        hits, alarms = PRIOR * flagged[labels == 1].mean(), (1 - PRIOR) * flagged[labels == 0].mean()
        values.append(hits - alarms * threshold / (1 - threshold))
    return values


def slow_reliability(labels: np.ndarray, bins: np.ndarray, counts: np.ndarray) -> list[float]:
    values = []
    for each in sorted(set(bins)):
        mine = np.repeat(labels[bins == each], counts[bins == each])
        values.append(mine.mean() if len(mine) else np.nan)
    return values


@pytest.mark.parametrize("ties", [True, False])
def test_weighted_curves_are_those_of_rows_written_out(ties):
    labels, p = made_up_rows(1, ties=ties)
    counts = np.random.default_rng(2).integers(0, 4, size=(5, len(p)))
    counts[0] = 1
    fast = weighted(labels, p, PRIOR)(counts.T.astype(np.float64))
    bins, _ = ece_bin_of_row(p)
    for row, of_row in enumerate(counts):
        drawn = repeated(labels, p, of_row)
        np.testing.assert_allclose(fast[1][row], slow_precision(*drawn), atol=1e-12)
        np.testing.assert_allclose(fast["roc"][row], slow_roc(*drawn), atol=1e-9)
        np.testing.assert_allclose(fast["cost"][row], slow_cost(*drawn), atol=1e-12)
        np.testing.assert_allclose(fast["net_benefit"][row], slow_net_benefit(*drawn), atol=1e-12)
        np.testing.assert_allclose(fast["reliability"][row], slow_reliability(labels, bins, of_row))


def test_areas_are_the_metrics_of_the_table():
    rng = np.random.default_rng(3)
    # 100 positives put a threshold on every point of the recall grid, so that its mean is the area.
    labels = np.repeat([0, 1], [150, 100]).astype(np.int64)
    p = np.round(rng.uniform(size=250) * 0.7 + 0.3 * labels, 2)
    fast = weighted(labels, p, PRIOR)(np.ones((250, 1)))
    assert fast[1][0].mean() == pytest.approx(average_precision_score(labels, p))
    area = np.trapezoid(fast["roc"][0], FALSE_ALARM_RATES)
    assert area == pytest.approx(roc_auc_score(labels, p), abs=0.005)


def test_bands_are_percentiles_of_the_replicates_and_groups_stay_whole():
    labels, p = made_up_rows(4, n=60, ties=False)
    lone = np.arange(60)
    found = curves_of(labels, lone, {"a": p, "b": 1.0 - p}, prior=PRIOR, seed=5, n_replicates=200)
    again = curves_of(labels, lone, {"a": p}, prior=PRIOR, seed=5, n_replicates=200)
    np.testing.assert_array_equal(found["a"].trade_offs.roc.low, again["a"].trade_offs.roc.low)
    drawn, trade_offs = found["a"], found["a"].trade_offs
    bands = {
        "precision_recall": drawn.precision_recall[1],
        "reliability": drawn.reliability,
        "roc": trade_offs.roc,
        "cost": trade_offs.cost,
        "net_benefit": trade_offs.net_benefit,
    }
    for name, band in bands.items():
        assert (band.low <= band.high).all()
        assert ((band.low <= band.y + 1e-9) & (band.y <= band.high + 1e-9)).mean() > 0.9, name
    # A class that is a single group is drawn whole each time: nothing varies.
    whole = curves_of(labels, labels.copy(), {"a": p}, prior=PRIOR, seed=5, n_replicates=100)["a"].trade_offs
    np.testing.assert_allclose(whole.roc.low, whole.roc.high)
    np.testing.assert_allclose(whole.net_benefit.low, whole.net_benefit.y)


def test_the_reliability_of_a_perfectly_calibrated_model_is_the_diagonal():
    rng = np.random.default_rng(6)
    p = rng.uniform(size=20_000)
    labels = (rng.uniform(size=20_000) < p).astype(np.int64)
    values = weighted(labels, p, 0.5)
    shares = values(np.ones((len(p), 1)))["reliability"][0]
    np.testing.assert_allclose(shares, values.mean_p_of_bin, atol=0.03)


def test_optimal_threshold_at_the_ends_and_in_the_middle():
    at = threshold_of_probability_cost(np.array([0.001, 0.5, 0.999]), 0.5)
    np.testing.assert_allclose(at, [0.999, 0.5, 0.001])
    # Equal costs put the probability-cost at the prior and the threshold at one half.
    assert threshold_of_probability_cost(np.array([PRIOR]), PRIOR)[0] == pytest.approx(0.5)


def test_flagging_all_gains_nothing_at_the_prior():
    assert net_benefit_of_flagging_all(np.array([PRIOR]), PRIOR)[0] == pytest.approx(0.0)
    labels, _ = made_up_rows(7)
    flag_all = weighted(labels, np.ones(len(labels)), PRIOR)(np.ones((len(labels), 1)))
    expected = net_benefit_of_flagging_all(THRESHOLDS, PRIOR)
    np.testing.assert_allclose(flag_all["net_benefit"][0], expected, atol=1e-12)


def test_refusals():
    labels, p = made_up_rows(8)
    rows = np.arange(len(p))
    with pytest.raises(UsageError, match="curves: prior is 1; give a share between 0 and 1"):
        curves_of(labels, rows, {"a": p}, prior=1.0, seed=0, n_replicates=10)
    with pytest.raises(DataError, match="class 1 of 2 has no rows"):
        curves_of(np.zeros_like(labels), rows, {"a": p}, prior=0.5, seed=0, n_replicates=10)
    with pytest.raises(UsageError, match=r"curves: prior is None for 2 classes\. Give a share"):
        curves_of(labels, rows, {"a": p}, prior=None, seed=0, n_replicates=10)
    three = made_up(COUNTS_OF[3])
    with pytest.raises(UsageError, match=r"curves: prior is 0\.2 for 3 classes"):
        curves(three.labels, three.labels, {"a": three.p}, prior=0.2, seed=0, n_replicates=10)


# ---- more than two classes


@pytest.mark.parametrize("decimals", [1, None])
def test_precision_of_a_class_is_that_of_two_classes(decimals):
    rows = made_up(COUNTS_OF[4], decimals=decimals)
    weights = np.random.default_rng(1).integers(1, 4, (len(rows.labels), 7)).astype(np.float64)
    of_all = WeightedCurves(rows, None)(weights)
    for label in range(4):
        alone = weighted((rows.labels == label).astype(np.int64), rows.p[:, label], 0.5)(weights)
        np.testing.assert_allclose(of_all[label], alone[1], atol=1e-12)


def test_reliability_is_the_share_right_in_each_bin():
    rows = made_up(COUNTS_OF[4], decimals=1)
    evaluate = WeightedCurves(rows, None)
    counts = np.random.default_rng(2).integers(1, 4, len(rows.labels))
    right = evaluate(counts[:, None].astype(np.float64))["reliability"]
    bins, _ = ece_bin_of_row(rows.p.max(axis=1))
    for place, each in enumerate(sorted(set(bins.tolist()))):
        mine = np.flatnonzero(bins == each)
        drawn = np.repeat(mine, counts[mine])
        assert right[0, place] == pytest.approx(np.mean(rows.p[drawn].argmax(axis=1) == rows.labels[drawn]))
        assert evaluate.mean_p_of_bin[place] == pytest.approx(rows.p[mine].max(axis=1).mean())


def test_bands_of_classes_hold_their_curves_and_follow_from_the_seed():
    rows = made_up(COUNTS_OF[4])
    lone = np.arange(len(rows.labels))

    def drawn(seed):
        return curves(rows.labels, lone, {"m": rows.p}, prior=None, seed=seed, n_replicates=60)["m"]

    one, again, other = drawn(3), drawn(3), drawn(4)
    assert one.trade_offs is None
    assert list(one.precision_recall) == list(one.average_precision) == [0, 1, 2, 3]
    for label, band in one.precision_recall.items():
        assert (band.low <= band.high).all()
        assert np.mean((band.low <= band.y + 1e-12) & (band.y <= band.high + 1e-12)) > 0.8
        np.testing.assert_array_equal(band.low, again.precision_recall[label].low)
        expected = average_precision_score(rows.labels == label, rows.p[:, label])
        assert one.average_precision[label] == pytest.approx(expected)
    assert (other.precision_recall[3].low != one.precision_recall[3].low).any()
