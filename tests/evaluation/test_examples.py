"""Which rows a report shows."""

from __future__ import annotations

import numpy as np

from evaluation.examples import confident_examples
from evaluation.rows import class_probabilities


def sorted_rows(n: int, keep, value) -> list[int]:
    """The slow version: rows that are kept, by value, ties in row order."""
    return sorted((i for i in range(n) if keep(i)), key=lambda i: (value(i), i))


def test_two_classes_against_a_slow_version():
    rng = np.random.default_rng(0)
    p, labels = np.round(rng.uniform(size=80), 1), rng.integers(0, 2, 80)
    decision = (p >= 0.5).astype(np.int64)
    found = confident_examples(class_probabilities(p), decision, labels, count=5)
    assert list(found) == ["false alarms", "missed", "found", "true negatives"]
    for name, flagged, minority, sign in (
        ("false alarms", 1, 0, -1),
        ("missed", 0, 1, 1),
        ("found", 1, 1, -1),
        ("true negatives", 0, 0, 1),
    ):
        rows = sorted_rows(
            80,
            lambda i, flagged=flagged, minority=minority: decision[i] == flagged and labels[i] == minority,
            lambda i, sign=sign: sign * p[i],
        )
        assert found[name].tolist() == rows[:5]


def test_more_classes_against_a_slow_version():
    rng = np.random.default_rng(0)
    p, labels = np.round(rng.dirichlet(np.ones(4), 60), 2), rng.integers(0, 4, 60)
    decision = p.argmax(axis=1)
    found = confident_examples(p, decision, labels, count=5, most_classes=3)

    def confidence(i: int) -> float:
        return -p[i, decision[i]]

    wrong = sorted_rows(60, lambda i: decision[i] != labels[i], confidence)
    missed = sorted_rows(60, lambda i: labels[i] == 3 != decision[i], lambda i: p[i, 3])
    hits = sorted_rows(60, lambda i: labels[i] == 3 == decision[i], lambda i: -p[i, 3])
    right = [sorted_rows(60, lambda i, k=k: labels[i] == k == decision[i], confidence)[0] for k in (3, 2, 1)]
    assert min(len(wrong), len(missed), len(hits)) > 1
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "wrong": wrong[:5],
        "missed": missed[:5],
        "found": hits[:5],
        "right": right,
    }


def test_classes_that_are_never_right_have_no_right_picture():
    p = np.array([[0.6, 0.3, 0.1], [0.5, 0.2, 0.3]])
    found = confident_examples(p, np.array([0, 0]), np.array([0, 2]))
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "wrong": [1],
        "missed": [1],
        "found": [],
        "right": [0],
    }
