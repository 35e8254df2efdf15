"""The results table: shape, pairing, coverage of intervals, speed."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from scipy.stats import binomtest

from contracts.errors import ModelError
from evaluation.comparison import TABLE_METRICS, Predictions, clopper_pearson, compare

RNG = np.random.default_rng(0)
LABELS = np.r_[np.zeros(400, int), np.ones(40, int)]


def noisy(strength, seed):
    rng = np.random.default_rng(seed)
    return 1 / (1 + np.exp(-(strength * (LABELS - 0.5) + rng.normal(size=len(LABELS)))))


def test_rows_have_the_promised_shape():
    predictions = {
        "calibrated_baseline": Predictions("baseline", noisy(2, 0), 0.5),
        "ensemble": Predictions("ensemble", noisy(4, 1), 0.5),
    }
    rows = compare(LABELS, np.arange(440), predictions, "calibrated_baseline", n_replicates=500)
    assert json.loads(json.dumps(rows)) == rows
    assert [row["name"] for row in rows] == ["calibrated_baseline", "ensemble"]
    baseline, ensemble = rows
    assert list(ensemble) == ["name", "kind", *TABLE_METRICS, "intervals", "minus_baseline", "p_values"]
    for metric in TABLE_METRICS:
        low, high = ensemble["intervals"][metric]
        assert low <= ensemble[metric] <= high or metric == "ece"
        assert baseline["minus_baseline"][metric] == [0.0, 0.0, 0.0]
        estimate, low, high = ensemble["minus_baseline"][metric]
        assert estimate == pytest.approx(ensemble[metric] - baseline[metric])
        assert low <= high
    assert ensemble["minus_baseline"]["auroc"][1] > 0


def test_differences_are_paired():
    p = noisy(2, 0)
    almost = np.clip(p + RNG.normal(0, 1e-4, len(p)), 0, 1)
    predictions = {"a": Predictions("baseline", p, 0.5), "b": Predictions("supervised", almost, 0.5)}
    row = compare(LABELS, np.arange(440), predictions, "a", n_replicates=300)[1]
    width = row["intervals"]["auroc"][1] - row["intervals"]["auroc"][0]
    paired_width = row["minus_baseline"]["auroc"][2] - row["minus_baseline"]["auroc"][1]
    assert paired_width < width / 20


def test_intervals_widen_with_groups():
    p = np.repeat(noisy(1.5, 0)[::10], 10)
    labels = np.repeat(LABELS[::10], 10)
    predictions = {"a": Predictions("baseline", p, 0.5)}

    def width(groups):
        low, high = compare(labels, groups, predictions, "a", n_replicates=500)[0]["intervals"]["auroc"]
        return high - low

    assert width(np.arange(440) // 10) > 2 * width(np.arange(440))


def test_recall_interval_is_exact_for_independent_rows_only():
    p = LABELS * 0.9 + 0.05
    predictions = {"a": Predictions("baseline", p, 0.5)}
    independent = compare(LABELS, np.arange(440), predictions, "a", n_replicates=50)[0]
    exact = binomtest(40, 40).proportion_ci(method="exact")
    assert independent["intervals"]["recall"] == pytest.approx([exact.low, exact.high])
    grouped = compare(LABELS, np.arange(440) // 2, predictions, "a", n_replicates=50)[0]
    assert grouped["intervals"]["recall"] == [1.0, 1.0]


@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (3, 7), (39, 40), (40, 40)])
def test_clopper_pearson_equals_scipy(hits, trials):
    exact = binomtest(hits, trials).proportion_ci(method="exact")
    assert clopper_pearson(hits, trials) == pytest.approx((exact.low, exact.high))


def test_unknown_baseline_names_the_nearest():
    with pytest.raises(ModelError, match="Did you mean 'calibrated_baseline'"):
        compare(
            LABELS,
            np.arange(440),
            {"calibrated_baseline": Predictions("c", noisy(1, 0), 0.5)},
            "calibrated_baselin",
        )


def test_same_seed_same_table():
    predictions = {"a": Predictions("baseline", noisy(2, 0), 0.5)}
    one = compare(LABELS, np.arange(440), predictions, "a", seed=1, n_replicates=100)
    assert one == compare(LABELS, np.arange(440), predictions, "a", seed=1, n_replicates=100)
    assert one != compare(LABELS, np.arange(440), predictions, "a", seed=2, n_replicates=100)


def test_two_thousand_rows_twelve_models_take_seconds():
    labels = np.r_[np.zeros(1900, int), np.ones(100, int)]
    rng = np.random.default_rng(0)
    predictions = {f"m{i}": Predictions("supervised", rng.random(2000), 0.5) for i in range(12)}
    start = time.perf_counter()
    compare(labels, np.arange(2000), predictions, "m0")
    # Generous: about 2 s alone on two cores.
    assert time.perf_counter() - start < 15
