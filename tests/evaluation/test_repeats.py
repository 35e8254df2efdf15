"""Repeats of the training in the table: means, and a bootstrap of two levels; two classes and more."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import ModelError
from evaluation.bootstrap import replicate_weights
from evaluation.comparison import Predictions, clopper_pearson, compare, repeat_counts
from evaluation.metrics import metrics_for
from evaluation.rows import Rows
from evaluation.verdict import bootstrap_p_value
from tests.evaluation.made_up import made_up
from tests.evaluation.slow_metrics import slow_metrics

COUNTS = {2: (60, 20), 3: (45, 25, 10)}
BASELINE = "calibrated_baseline"


def repeats_of(n_classes, n_repeats=3):
    """Labels, and R times two models on the same rows."""
    repeats, labels = [], np.repeat(np.arange(n_classes), COUNTS[n_classes])
    rng = np.random.default_rng(0)
    for _ in range(n_repeats):
        models = {}
        for name, kind, strength in ((BASELINE, "baseline", 1.0), ("other", "supervised", 1.5)):
            logits = strength * np.eye(n_classes)[labels] + rng.normal(size=(len(labels), n_classes))
            p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            models[name] = Predictions(kind, p, (p * np.arange(1, n_classes + 1)).argmax(axis=1))
        repeats.append(models)
    return labels, repeats


def table(labels, repeats, groups=None, **settings):
    groups = np.arange(len(labels)) if groups is None else groups
    n_classes = repeats[0][BASELINE].p.shape[1]
    return compare(labels, groups, repeats, BASELINE, tuple("abc")[:n_classes], **settings)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("rows_per_group", [1, 4])
def test_equals_drawing_rows_and_repeats_one_by_one(rows_per_group, n_classes):
    """The whole table by the slow, obvious way: no weight but a count, no block, no shared sum."""
    labels, repeats = repeats_of(n_classes)
    groups, seed, n = np.arange(80) // rows_per_group, 5, 4
    found = table(labels, repeats, groups, seed=seed, n_replicates=n)

    (weights,) = replicate_weights(labels, groups, n_replicates=n, seed=seed)
    drawn_repeats = repeat_counts(3, n, seed)
    slow = {name: [] for name in repeats[0]}
    for b in range(n):
        which = np.repeat(np.arange(3), drawn_repeats[b].astype(int))
        assert len(which) == 3
        for name, replicates in slow.items():
            each = [figures(labels, repeats[r][name], weights[b]) for r in which]
            replicates.append({metric: np.mean([one[metric] for one in each], axis=0) for metric in each[0]})

    for row in found:
        whole = [figures(labels, each[row["name"]], np.ones(80)) for each in repeats]
        for metric in metrics_for(n_classes):
            replicates, of_baseline = (
                np.array([one[metric] for one in slow[name]]) for name in (row["name"], BASELINE)
            )
            difference = replicates - of_baseline
            assert row[metric] == pytest.approx(np.mean([one[metric] for one in whole]))
            assert row["repeats"][metric] == pytest.approx([one[metric] for one in whole])
            bounds = list(np.percentile(replicates, [2.5, 97.5]))
            if metric == "recall" and rows_per_group == 1:
                bounds = union(bounds, clopper_pearson(20 * row["recall"], 20))
            assert row["intervals"][metric] == pytest.approx(bounds)
            assert row["minus_baseline"][metric][1:] == pytest.approx(
                list(np.percentile(difference, [2.5, 97.5]))
            )
            # The sums differ in the last bit, which counts only for a difference of exactly 0.
            assert row["p_values"][metric] == pytest.approx(bootstrap_p_value(difference.round(12)), abs=0.06)
        for k, name in enumerate("abc" if n_classes > 2 else ""):
            value, *bounds = row["per_class_recall"][name]
            replicates = np.array([one["recalls"][k] for one in slow[row["name"]]])
            expected = list(np.percentile(replicates, [2.5, 97.5]))
            if rows_per_group == 1:
                expected = union(expected, clopper_pearson(COUNTS[3][k] * value, COUNTS[3][k]))
            assert value == pytest.approx(np.mean([one["recalls"][k] for one in whole]))
            assert bounds == pytest.approx(expected)


def figures(labels, one, weights):
    return slow_metrics(Rows.checked(labels, one.p, one.decision), weights)


def union(one, other):
    return [min(one[0], other[0]), max(one[1], other[1])]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_equal_repeats_change_no_figure(n_classes):
    labels, (models,) = repeats_of(n_classes, n_repeats=1)
    alone, many = (table(labels, [models] * count, n_replicates=100) for count in (1, 4))
    assert "repeats" not in alone[0]
    for one, row in zip(alone, many, strict=True):
        assert row.pop("repeats").keys() == metrics_for(n_classes).keys()
        for metric in metrics_for(n_classes):
            assert row[metric] == pytest.approx(one[metric])
            assert row["minus_baseline"][metric] == pytest.approx(one["minus_baseline"][metric])
            if metric != "recall":
                assert row["intervals"][metric] == pytest.approx(one["intervals"][metric])


def test_intervals_widen_with_what_the_repeats_differ_by():
    labels = np.repeat([0, 1], COUNTS[2])
    good, bad, baseline = (
        Predictions("supervised", rows.p, rows.decision)
        for rows in (ordered(made_up(COUNTS[2], *given)) for given in ((0, 3.0), (1, 0.2), (2, 1.0)))
    )

    def width(models):
        repeats = [{BASELINE: baseline, "other": model} for model in models]
        _, low, high = table(labels, repeats, n_replicates=300)[1]["minus_baseline"]["auroc"]
        return high - low

    assert width([good, bad, good, bad]) > 1.5 * width([good] * 4)


def ordered(rows):
    by_label = np.argsort(rows.labels, kind="stable")
    return Rows(rows.labels[by_label], rows.p[by_label], rows.decision[by_label])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_baseline_is_paired_with_itself_whatever_the_repeats(n_classes):
    row = table(*repeats_of(n_classes), n_replicates=50)[0]
    for metric in metrics_for(n_classes):
        assert row["minus_baseline"][metric] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_class_that_every_repeat_finds_wholly_is_not_certain_to_be_found(n_classes):
    """The bootstrap alone would say [1, 1] of ten rows."""
    labels, repeats = repeats_of(n_classes, n_repeats=2)
    for each in repeats:
        each[BASELINE].decision[labels == n_classes - 1] = n_classes - 1
    row = table(labels, repeats, n_replicates=50)[0]
    if n_classes == 2:
        value, interval = row["recall"], row["intervals"]["recall"]
    else:
        value, *interval = row["per_class_recall"]["c"]
    n_minority = COUNTS[n_classes][-1]
    assert value == 1.0
    assert interval == pytest.approx(clopper_pearson(n_minority, n_minority))
    assert interval[0] < 0.9


@pytest.mark.parametrize("n_classes", [2, 3])
def test_repeats_of_different_models_are_refused(n_classes):
    labels, repeats = repeats_of(n_classes)
    del repeats[2]["other"]
    with pytest.raises(ModelError, match="'other' has predictions in some repeats and none in others"):
        table(labels, repeats)
