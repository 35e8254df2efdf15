"""K classes: metrics as scikit-learn and imbalanced-learn compute them, replicate by replicate."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from imblearn.metrics import geometric_mean_score
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    recall_score,
    roc_auc_score,
)

from contracts.errors import ModelError
from evaluation.bootstrap import replicate_weights
from evaluation.comparison import clopper_pearson
from evaluation.metrics import ece_bin_of_row
from evaluation.multiclass import MULTICLASS_METRICS, multiclass_metrics
from evaluation.multiclass_bootstrap import WeightedMulticlassMetrics
from evaluation.multiclass_comparison import MulticlassPredictions, compare_multiclass

COUNTS = (60, 30, 12, 7)


def made_up(seed=0, counts=COUNTS, strength=1.5, decimals=None):
    """Labels, probabilities and decisions; ``decimals`` rounds probabilities so that there are ties."""
    rng = np.random.default_rng(seed)
    k = len(counts)
    labels = rng.permutation(np.repeat(np.arange(k), counts))
    logits = strength * np.eye(k)[labels] + rng.normal(size=(len(labels), k))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if decimals is not None:
        p = np.round(p, decimals) + 10.0**-decimals
        p /= p.sum(axis=1, keepdims=True)
        p = np.round(p, 12)
    return labels, p, (p * np.arange(1, k + 1)).argmax(axis=1)


def slow_metrics(labels, p, decision, weights):
    """The same numbers by libraries, with sample weights."""
    k = p.shape[1]
    w = {"sample_weight": weights}
    hot = np.eye(k)[labels]
    recalls = recall_score(labels, decision, average=None, **w)
    confidence = p.max(axis=1)
    bins, n_bins = ece_bin_of_row(confidence)
    gap = weights * (confidence - (p.argmax(axis=1) == labels))
    return {
        "acsa": recalls.mean(),
        "g_mean_product": geometric_mean_score(labels, decision, average="multiclass", **w),
        "g_mean_macro": geometric_mean_score(labels, decision, average="macro", **w),
        "macro_f1": f1_score(labels, decision, average="macro", **w),
        "macro_auroc": np.mean([roc_auc_score(hot[:, j], p[:, j], **w) for j in range(k)]),
        "macro_average_precision": np.mean(
            [average_precision_score(hot[:, j], p[:, j], **w) for j in range(k)]
        ),
        "accuracy": accuracy_score(labels, decision, **w),
        "log_loss": log_loss(labels, p, labels=range(k), **w),
        "brier": np.average(((p - hot) ** 2).sum(axis=1), weights=weights),
        "ece": sum(abs(gap[bins == b].sum()) for b in range(n_bins)) / weights.sum(),
    }, recalls


@pytest.mark.parametrize("decimals", [None, 1])
def test_metrics_are_those_of_the_libraries(decimals):
    labels, p, decision = made_up(decimals=decimals)
    slow, _ = slow_metrics(labels, p, decision, np.ones(len(labels)))
    values = multiclass_metrics(labels, p, decision)
    assert list(values) == list(MULTICLASS_METRICS)
    for name, value in values.items():
        assert value == pytest.approx(slow[name], abs=1e-10), name


@pytest.mark.parametrize("decimals", [None, 1])
def test_weighted_metrics_repeat_the_slow_ones_in_every_replicate(decimals):
    labels, p, decision = made_up(seed=1, decimals=decimals)
    groups = np.arange(len(labels)) // 3
    weights = np.concatenate(list(replicate_weights(labels, groups, n_replicates=12, seed=3)))
    fast, recalls = WeightedMulticlassMetrics(labels, p, decision)(np.ascontiguousarray(weights.T))
    assert list(fast) == list(MULTICLASS_METRICS)
    for b, of_replicate in enumerate(weights):
        slow, slow_recalls = slow_metrics(labels, p, decision, of_replicate)
        np.testing.assert_allclose(recalls[:, b], slow_recalls, atol=1e-12)
        for name in MULTICLASS_METRICS:
            assert fast[name][b] == pytest.approx(slow[name], abs=1e-10), name


def predictions_of(seed, kind="supervised", strength=1.5):
    _, p, decision = made_up(seed=seed, strength=strength)
    return MulticlassPredictions(kind, p, decision)


def test_rows_have_the_promised_shape():
    labels, p, decision = made_up()
    names = ("a", "b", "c", "d")
    better = 0.5 * p + 0.5 * np.eye(4)[labels]
    rows = compare_multiclass(
        labels,
        np.arange(len(labels)),
        {
            "calibrated_baseline": MulticlassPredictions("baseline", p, decision),
            "ensemble": MulticlassPredictions("ensemble", better, better.argmax(axis=1)),
        },
        "calibrated_baseline",
        names,
        n_replicates=200,
    )
    assert json.loads(json.dumps(rows)) == rows
    baseline, ensemble = rows
    tail = ["intervals", "minus_baseline", "p_values", "per_class_recall", "per_class_recall_minus_baseline"]
    assert list(ensemble) == ["name", "kind", *MULTICLASS_METRICS, *tail]
    for metric in MULTICLASS_METRICS:
        low, high = ensemble["intervals"][metric]
        assert low <= ensemble[metric] <= high or metric == "ece"
        estimate, below, above = ensemble["minus_baseline"][metric]
        assert estimate == pytest.approx(ensemble[metric] - baseline[metric])
        assert below <= above
        assert baseline["minus_baseline"][metric] == [0.0, 0.0, 0.0]
        assert baseline["p_values"][metric] == 1.0
    assert ensemble["minus_baseline"]["acsa"][1] > 0
    assert ensemble["p_values"]["acsa"] < 0.05
    assert list(ensemble["per_class_recall"]) == list(names)
    hits = int((decision[labels == 3] == 3).sum())
    assert baseline["per_class_recall"]["d"] == [hits / 7, *clopper_pearson(hits, 7)]
    assert baseline["acsa"] == pytest.approx(np.mean([v[0] for v in baseline["per_class_recall"].values()]))


def test_intervals_are_those_of_plain_resampling():
    """Percentiles of the vectorised replicates against drawing rows one replicate at a time."""
    labels, p, decision = made_up(seed=4)
    (row,) = compare_multiclass(
        labels,
        np.arange(len(labels)),
        {"c": MulticlassPredictions("baseline", p, decision)},
        "c",
        ("a", "b", "c", "d"),
        n_replicates=4000,
    )
    rng = np.random.default_rng(0)
    of_class = [np.flatnonzero(labels == k) for k in range(4)]
    drawn = []
    for _ in range(4000):
        rows = np.concatenate([rng.choice(mine, len(mine)) for mine in of_class])
        drawn.append(np.mean([(decision[rows] == k)[labels[rows] == k].mean() for k in range(4)]))
    np.testing.assert_allclose(row["intervals"]["acsa"], np.percentile(drawn, [2.5, 97.5]), atol=0.012)


def test_groups_are_drawn_whole():
    """Ten copies of every row in one group say nothing new; ten copies as single rows pretend to."""
    labels, p, decision = made_up(seed=5)
    ten = [np.repeat(values, 10, axis=0) for values in (labels, p, decision)]
    widths = []
    for groups in (np.repeat(np.arange(len(labels)), 10), np.arange(10 * len(labels))):
        (row,) = compare_multiclass(
            ten[0], groups, {"c": MulticlassPredictions("baseline", ten[1], ten[2])}, "c", tuple("abcd")
        )
        low, high = row["intervals"]["acsa"]
        widths.append(high - low)
    assert widths[0] > 2.5 * widths[1]


def test_memory_stays_bounded_where_rows_are_many():
    labels, p, decision = made_up(counts=(2000,) * 5, strength=1.0)
    tracemalloc.start()
    try:
        compare_multiclass(
            labels,
            np.arange(len(labels)),
            {"c": MulticlassPredictions("baseline", p, decision)},
            "c",
            tuple("abcde"),
            n_replicates=500,
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The sums of all replicates at once would be 140 MB; those of a block are 15.
    assert peak < 70e6


def test_no_baseline_no_comparison():
    labels, p, decision = made_up()
    with pytest.raises(ModelError, match="no predictions of the baseline 'null', only of cnn"):
        compare_multiclass(
            labels,
            np.arange(len(labels)),
            {"cnn": MulticlassPredictions("supervised", p, decision)},
            "null",
            tuple("abcd"),
        )
