"""Repeats of the training in the table: means, and a bootstrap of two levels."""

from __future__ import annotations

import numpy as np
import pytest
from imblearn.metrics import geometric_mean_score

from contracts.errors import ModelError
from evaluation.bootstrap import replicate_weights
from evaluation.comparison import (
    TABLE_METRICS,
    Predictions,
    clopper_pearson,
    compare,
    compare_repeats,
    repeat_counts,
)
from evaluation.metrics import balanced_accuracy, g_mean, point_metrics
from evaluation.verdict import bootstrap_p_value

LABELS = np.r_[np.zeros(60, int), np.ones(20, int)]
# ECE keeps the bins of the whole sample in every replicate, so drawing rows for real gives other bins.
DRAWN_METRICS = [metric for metric in TABLE_METRICS if metric != "ece"]


def noisy(strength, seed):
    rng = np.random.default_rng(seed)
    return 1 / (1 + np.exp(-(strength * (LABELS - 0.5) + rng.normal(size=len(LABELS)))))


def three_repeats():
    return [
        {
            "calibrated_baseline": Predictions("baseline", noisy(1.0, 10 * r), 0.4 + 0.05 * r),
            "other": Predictions("supervised", noisy(1.5, 10 * r + 1), 0.5),
        }
        for r in range(3)
    ]


@pytest.mark.parametrize("rows_per_group", [1, 4])
def test_equals_drawing_rows_and_repeats_one_by_one(rows_per_group):
    groups, repeats, seed, n = np.arange(80) // rows_per_group, three_repeats(), 5, 6
    rows = compare_repeats(LABELS, groups, repeats, "calibrated_baseline", seed=seed, n_replicates=n)

    (weights,) = replicate_weights(LABELS, groups, n_replicates=n, seed=seed)
    drawn_repeats = repeat_counts(3, n, seed)
    slow = {name: {metric: [] for metric in DRAWN_METRICS} for name in repeats[0]}
    for b in range(n):
        drawn = np.repeat(np.arange(80), weights[b].astype(int))
        which = np.repeat(np.arange(3), drawn_repeats[b].astype(int))
        assert len(which) == 3
        for name, metrics in slow.items():
            values = []
            for r in which:
                one = repeats[r][name]
                values.append(point_metrics(LABELS[drawn], one.p_minority[drawn], one.threshold))
            for metric, replicates in metrics.items():
                replicates.append(np.mean([value[metric] for value in values]))

    for row in rows:
        whole = [point_metrics(LABELS, r[row["name"]].p_minority, r[row["name"]].threshold) for r in repeats]
        for metric in DRAWN_METRICS:
            replicates = np.array(slow[row["name"]][metric])
            difference = replicates - np.array(slow["calibrated_baseline"][metric])
            assert row[metric] == pytest.approx(np.mean([value[metric] for value in whole]))
            assert row["repeats"][metric] == pytest.approx([value[metric] for value in whole])
            bounds = list(np.percentile(replicates, [2.5, 97.5]))
            if metric == "recall" and rows_per_group == 1:
                exact = clopper_pearson(20 * row["recall"], 20)
                bounds = [min(bounds[0], exact[0]), max(bounds[1], exact[1])]
            assert row["intervals"][metric] == pytest.approx(bounds)
            assert row["minus_baseline"][metric][1:] == pytest.approx(
                list(np.percentile(difference, [2.5, 97.5]))
            )
            # The sums differ in the last bit, which counts only for a difference of exactly 0.
            assert row["p_values"][metric] == pytest.approx(bootstrap_p_value(difference.round(12)), abs=0.06)


def test_one_repeat_is_the_table_without_repeats():
    predictions = three_repeats()[0]
    one = compare_repeats(LABELS, np.arange(80), [predictions], "calibrated_baseline", n_replicates=100)
    assert one == compare(LABELS, np.arange(80), predictions, "calibrated_baseline", n_replicates=100)
    assert "repeats" not in one[0]


def test_equal_repeats_change_no_figure():
    predictions = three_repeats()[0]
    alone, many = (
        compare_repeats(LABELS, np.arange(80), [predictions] * k, "calibrated_baseline", n_replicates=100)[1]
        for k in (1, 3)
    )
    for metric in TABLE_METRICS:
        assert many[metric] == pytest.approx(alone[metric])
        assert many["minus_baseline"][metric] == pytest.approx(alone["minus_baseline"][metric])


def test_repeats_that_disagree_widen_the_interval_of_the_difference():
    # The same rows decided in opposite ways: no row shows it, only the choice of the repeat does.
    good, bad = Predictions("supervised", noisy(4.0, 0), 0.5), Predictions("supervised", noisy(0.2, 1), 0.5)
    baseline = Predictions("baseline", noisy(1.5, 2), 0.5)

    def width(models):
        repeats = [{"calibrated_baseline": baseline, "other": model} for model in models]
        row = compare_repeats(LABELS, np.arange(80), repeats, "calibrated_baseline", n_replicates=300)[1]
        return row["minus_baseline"]["auroc"][2] - row["minus_baseline"]["auroc"][1]

    assert width([good, bad, good, bad]) > 1.5 * width([good] * 4)


def test_the_baseline_is_paired_with_itself_whatever_the_repeats():
    row = compare_repeats(LABELS, np.arange(80), three_repeats(), "calibrated_baseline", n_replicates=50)[0]
    for metric in TABLE_METRICS:
        assert row["minus_baseline"][metric] == [0.0, 0.0, 0.0]


def test_repeats_of_different_models_are_refused():
    repeats = three_repeats()
    del repeats[2]["other"]
    with pytest.raises(ModelError, match="'other' has predictions in some repeats and none in others"):
        compare_repeats(LABELS, np.arange(80), repeats, "calibrated_baseline")


def test_the_macro_form_of_the_g_mean_is_the_balanced_accuracy_for_two_classes():
    p = noisy(1.0, 3)
    decision = (p >= 0.4).astype(int)
    # Means of both classes' recalls and specificities, which are the same two numbers.
    macro = geometric_mean_score(LABELS, decision, average="macro")
    assert macro == pytest.approx(balanced_accuracy(LABELS, p, 0.4))
    assert g_mean(LABELS, p, 0.4) == pytest.approx(geometric_mean_score(LABELS, decision))
    assert g_mean(LABELS, p, 0.4) != pytest.approx(macro)
