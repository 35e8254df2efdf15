"""Point metrics against hand-computed values and slow versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from contracts.errors import DataError
from evaluation.metrics import METRICS, decide, ece, ece_bin_of_row, point_metrics
from evaluation.multiclass import multiclass_metrics

LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1])
P = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.5, 0.9])


def test_values_worked_by_hand():
    values = point_metrics(LABELS, P, 0.5)
    # Flagged: rows 4, 5, 6, 7 → TP 2, FP 2, TN 4.
    assert values["recall"] == 1.0
    assert values["specificity"] == pytest.approx(4 / 6)
    assert values["balanced_accuracy"] == pytest.approx(5 / 6)
    assert values["hter"] == pytest.approx(1 / 6)
    assert values["f1"] == pytest.approx(2 / 3)
    assert values["g_mean"] == pytest.approx(np.sqrt(4 / 6))
    # 0.9 beats six; 0.5 beats four, ties one.
    assert values["auroc"] == pytest.approx((6 + 4.5) / 12)
    assert values["average_precision"] == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 4)
    assert values["brier"] == pytest.approx(brier_score_loss(LABELS, P))
    assert set(values) == set(METRICS)


def test_threshold_is_inclusive():
    np.testing.assert_array_equal(decide(np.array([0.49, 0.5, 0.51]), 0.5), [0, 1, 1])


def test_nothing_flagged_gives_zero_f1_without_warning():
    assert point_metrics(LABELS, P, 0.99)["f1"] == 0.0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.integers(0, 10_000), st.integers(2, 50))
def test_ece_equals_a_loop_over_bins(n, seed, levels):
    rng = np.random.default_rng(seed)
    p = rng.integers(0, levels, n) / levels
    labels = rng.integers(0, 2, n)
    bins, n_bins = ece_bin_of_row(p)
    slow = 0.0
    for b in range(n_bins):
        rows = [i for i in range(n) if bins[i] == b]
        if rows:
            slow += len(rows) / n * abs(np.mean([p[i] for i in rows]) - np.mean([labels[i] for i in rows]))
    assert ece(labels, p) == pytest.approx(slow)


def test_ece_bins_have_equal_mass_and_keep_ties_together():
    p = np.random.default_rng(0).permutation(np.linspace(0, 1, 600))
    bins, n_bins = ece_bin_of_row(p)
    assert n_bins == 15
    assert set(np.bincount(bins)) == {40}
    assert ece_bin_of_row(np.full(45, 0.3))[0].tolist() == [0] * 45
    assert ece_bin_of_row(np.linspace(0, 1, 45))[1] == 2


def test_ece_is_zero_for_calibrated_and_large_for_overconfident():
    labels = np.tile([0, 0, 0, 1], 100)
    assert ece(labels, np.full(400, 0.25)) == pytest.approx(0.0)
    assert ece(labels, np.full(400, 0.95)) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("labels", "p", "words"),
    [
        ([0, 0], [0.1, 0.2], "0 minority and 2 majority"),
        ([0, 1], [0.1, np.nan], "NaN or outside"),
        ([0, 1], [0.1, 1.2], "NaN or outside"),
        ([0, 2], [0.1, 0.2], "other than 0 and 1"),
        ([0, 1, 1], [0.1, 0.2], "one a row"),
    ],
)
def test_refusals_say_what_is_wrong(labels, p, words):
    with pytest.raises(DataError, match=words):
        point_metrics(np.array(labels), np.array(p), 0.5)


def test_multiclass_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    decision = np.array([0, 0, 0, 1, 1, 1, 2, 0])
    p = np.full((8, 3), 0.1)
    p[np.arange(8), decision] = 0.8
    values = multiclass_metrics(labels, p, decision)
    recalls = [0.75, 1.0, 0.5]
    specificities = [3 / 4, 5 / 6, 1.0]
    assert values["acsa"] == pytest.approx(np.mean(recalls))
    assert values["g_mean_product"] == pytest.approx(np.prod(recalls) ** (1 / 3))
    assert values["g_mean_macro"] == pytest.approx(np.sqrt(np.mean(recalls) * np.mean(specificities)))
    assert values["macro_f1"] == pytest.approx(np.mean([0.75, 0.8, 2 / 3]))
    assert values["log_loss"] == pytest.approx(-(6 * np.log(0.8) + 2 * np.log(0.1)) / 8)


def test_multiclass_product_g_mean_is_zero_when_a_class_is_never_found():
    labels = np.array([0, 1, 2])
    values = multiclass_metrics(labels, np.full((3, 3), 1 / 3), np.array([0, 1, 1]))
    assert values["g_mean_product"] == 0.0
    assert values["g_mean_macro"] > 0.0


def test_multiclass_refuses_a_missing_class():
    with pytest.raises(DataError, match="class 2 of 3 has no rows"):
        multiclass_metrics(np.array([0, 1]), np.full((2, 3), 1 / 3), np.array([0, 1]))
    with pytest.raises(DataError, match="Give \\[N\\] labels"):
        multiclass_metrics(np.array([0, 1]), np.full((2,), 0.5), np.array([0, 1]))
