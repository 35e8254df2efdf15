"""The vectorised bootstrap against scikit-learn with sample weights and against its own promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from evaluation.bootstrap import WeightedMetrics, replicate_weights
from evaluation.metrics import METRICS, ece_bin_of_row, point_metrics


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 60), st.integers(0, 10_000), st.integers(2, 12), st.booleans())
def test_weighted_metrics_equal_scikit_learn_with_ties(n, seed, levels, fractional):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    labels[:2] = [0, 1]
    p = rng.integers(0, levels + 1, n) / levels
    threshold = float(rng.choice(p))
    weights = rng.random((2, n)) if fractional else rng.integers(0, 4, (2, n)).astype(float)
    weights[:, :2] += 1.0
    got = WeightedMetrics(labels, p, threshold)(weights)
    bins, n_bins = ece_bin_of_row(p)
    for b, w in enumerate(weights):
        decided = p >= threshold
        recall = sk.recall_score(labels, decided, sample_weight=w)
        specificity = sk.recall_score(labels, decided, pos_label=0, sample_weight=w)
        want = {
            "auroc": sk.roc_auc_score(labels, p, sample_weight=w),
            "average_precision": sk.average_precision_score(labels, p, sample_weight=w),
            "balanced_accuracy": sk.balanced_accuracy_score(labels, decided, sample_weight=w),
            "hter": 1 - sk.balanced_accuracy_score(labels, decided, sample_weight=w),
            "f1": sk.f1_score(labels, decided, sample_weight=w, zero_division=0),
            "g_mean": np.sqrt(recall * specificity),
            "brier": sk.brier_score_loss(labels, p, sample_weight=w),
            "ece": sum(abs(np.sum((w * (p - labels))[bins == k])) for k in range(n_bins)) / w.sum(),
            "recall": recall,
            "specificity": specificity,
        }
        for name, value in want.items():
            assert got[name][b] == pytest.approx(value, abs=1e-9), name


def test_unit_weights_give_the_point_metrics():
    rng = np.random.default_rng(1)
    labels = np.r_[np.zeros(300, int), np.ones(30, int)]
    p = np.clip(rng.normal(0.3 + 0.3 * labels, 0.2), 0, 1).round(2)
    values = WeightedMetrics(labels, p, 0.5)(np.ones((1, 330)))
    for name, value in point_metrics(labels, p, 0.5).items():
        assert values[name][0] == pytest.approx(value), name
    assert set(values) == set(METRICS)


def all_weights(labels, groups, **settings_):
    return np.concatenate(list(replicate_weights(labels, groups, **settings_)))


def test_replicates_keep_class_counts_and_average_to_one():
    labels = np.r_[np.zeros(50, int), np.ones(7, int)]
    weights = all_weights(labels, np.arange(57), n_replicates=4000, seed=3)
    assert weights.shape == (4000, 57)
    assert set(weights[:, labels == 1].sum(axis=1)) == {7.0}
    assert set(weights[:, labels == 0].sum(axis=1)) == {50.0}
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, atol=0.1)
    # A multiplicity is binomial(n, 1/n): variance 1 - 1/n.
    np.testing.assert_allclose(weights[:, labels == 1].var(axis=0), 6 / 7, atol=0.12)


def test_groups_are_drawn_whole_and_no_class_is_lost():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 20, 200)
    labels = (rng.random(200) < 0.1).astype(int)
    weights = all_weights(labels, groups, n_replicates=300, seed=0)
    for group in np.unique(groups):
        of_group = weights[:, groups == group]
        assert (of_group == of_group[:, :1]).all()
    assert (weights[:, labels == 1].sum(axis=1) > 0).all()
    assert (weights[:, labels == 0].sum(axis=1) > 0).all()


def test_deterministic_and_independent_of_block_size():
    labels = np.r_[np.zeros(31, int), np.ones(9, int)]
    groups = np.r_[np.arange(31), 31 + np.arange(9) // 2]
    once = all_weights(labels, groups, n_replicates=50, seed=5)
    blocks = all_weights(labels, groups, n_replicates=50, seed=5, weights_per_block=7 * 40)
    np.testing.assert_array_equal(once, blocks)
    assert (once != all_weights(labels, groups, n_replicates=50, seed=6)).any()


def test_memory_bound_is_kept():
    labels = np.r_[np.zeros(90, int), np.ones(10, int)]
    sizes = [
        len(b)
        for b in replicate_weights(labels, np.arange(100), n_replicates=25, seed=0, weights_per_block=1000)
    ]
    assert sizes == [10, 10, 5]
