"""The bootstrap keeps its promises: groups whole, no class lost, the same draws whatever the block size."""

from __future__ import annotations

import numpy as np

from evaluation.bootstrap import replicate_weights


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
