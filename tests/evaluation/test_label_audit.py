"""The ranking of contradicted labels, beside a slow and obvious version."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.label_audit import NEIGHBOURS, neighbour_shares, suspicions_of


def slow_shares(vectors, labels, groups, n_classes):
    unit = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    shares = np.zeros((len(labels), n_classes))
    for row in range(len(labels)):
        others = [(-float(unit[row] @ unit[i]), i) for i in range(len(labels)) if groups[i] != groups[row]]
        for _, i in sorted(others)[:NEIGHBOURS]:
            shares[row, labels[i]] += 1 / NEIGHBOURS
    return shares


@pytest.mark.parametrize("n_classes", [2, 4])
def test_neighbours_are_those_of_other_groups(n_classes):
    rng = np.random.default_rng(n_classes)
    vectors = rng.normal(size=(60, 5)).astype(np.float32)
    labels, groups = rng.integers(0, n_classes, 60), rng.integers(0, 25, 60)
    expected = slow_shares(vectors.astype(np.float64), labels, groups, n_classes)
    np.testing.assert_allclose(neighbour_shares(vectors, labels, groups, n_classes), expected, atol=1e-9)


def test_a_row_without_other_groups_gets_the_shares_of_all():
    shares = neighbour_shares(np.eye(4, 3), np.array([0, 0, 0, 1]), np.zeros(4, dtype=np.int64), 2)
    np.testing.assert_allclose(shares, [[0.75, 0.25]] * 4)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_flipped_labels_come_first(n_classes):
    """Fails where the direction, the suggested class or a witness is lost."""
    rng = np.random.default_rng(7)
    true = rng.choice(n_classes, 400, p=[0.7, *[0.3 / (n_classes - 1)] * (n_classes - 1)])
    logits = 3.0 * np.eye(n_classes)[true] + rng.normal(0, 1.0, (400, n_classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = true.copy()
    wrong = rng.permutation(400)[:12]
    labels[wrong] = (labels[wrong] + 1) % n_classes
    near = rng.multinomial(NEIGHBOURS, [1 / n_classes] * n_classes, 400) / NEIGHBOURS
    near[np.arange(400), true] += 1.0
    near /= near.sum(axis=1, keepdims=True)
    found = suspicions_of(labels, p, [p, p[:, ::-1]], near)
    first = np.argsort(-found.score)[:20]
    assert len(set(first) & set(wrong)) >= 10
    assert (found.suggested != labels).all()
    right = set(first) & set(wrong)
    assert np.mean([found.suggested[i] == true[i] for i in right]) >= 0.9
    assert found.contradicted[list(right)].all()
    np.testing.assert_allclose(found.p_label, p[np.arange(400), labels])


def test_each_witness_counts_and_the_ensemble_twice_as_much():
    labels = np.array([0, 0, 0, 1])
    even = np.full((4, 2), 0.5)
    share = 0.5 * np.log(3)  # half of the log-odds of the classes' shares speaks for the rare class
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.5, 0.5]])
    near = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.5, 0.5]])
    by_p, by_near = suspicions_of(labels, p, [p], even).score, suspicions_of(labels, even, [p], near).score
    np.testing.assert_allclose(by_p[:2], [share - np.log(9), share + np.log(9)])
    np.testing.assert_allclose(by_near[2:], [share + 0.5 * np.log(9.5 / 1.5), -share])
    prior = np.array([share, share, share, -share])
    np.testing.assert_allclose(suspicions_of(labels, p, [p], near).score, by_p + by_near - prior)
    assert suspicions_of(labels, p, [p, even], near).members_against.tolist() == [0, 1, 0, 0]
    assert suspicions_of(labels, p, [p], near).neighbours_against.tolist() == [1, 1, 9, 5]
