"""Which rows the galleries show."""

from __future__ import annotations

import numpy as np

from workflow.pages.gallery import surest, surest_of_classes


def test_surest_against_a_slow_version():
    rng = np.random.default_rng(0)
    p, labels = np.round(rng.uniform(size=80), 1), rng.integers(0, 2, 80)
    decision = (p >= 0.5).astype(np.int64)
    found = surest(p, decision, labels, 2, count=5)
    for name, flagged, minority, sign in (
        ("false alarms", 1, 0, -1),
        ("missed", 0, 1, 1),
        ("found", 1, 1, -1),
        ("spared", 0, 0, 1),
    ):
        rows = [i for i in range(80) if decision[i] == flagged and labels[i] == minority]
        assert found[name].tolist() == sorted(rows, key=lambda i: (sign * p[i], i))[:5]


def test_the_minority_is_the_last_of_three_classes():
    p = np.array([0.9, 0.8, 0.1, 0.2])
    found = surest(p, np.array([2, 2, 1, 0]), np.array([1, 2, 1, 2]), 3)
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "false alarms": [0],
        "missed": [3],
        "found": [1],
        "spared": [2],
    }


def test_surest_of_classes_against_a_slow_version():
    rng = np.random.default_rng(0)
    p, labels = np.round(rng.dirichlet(np.ones(4), 60), 2), rng.integers(0, 4, 60)
    decision = p.argmax(axis=1)
    found = surest_of_classes(p, decision, labels, count=5, most_classes=3)

    def sorted_rows(keep, value) -> list[int]:
        return sorted((i for i in range(60) if keep(i)), key=lambda i: (value(i), i))

    surest_decision = lambda i: -p[i, decision[i]]  # noqa: E731
    wrong = sorted_rows(lambda i: decision[i] != labels[i], surest_decision)
    missed = sorted_rows(lambda i: labels[i] == 3 != decision[i], lambda i: p[i, 3])
    hits = sorted_rows(lambda i: labels[i] == 3 == decision[i], lambda i: -p[i, 3])
    right = [sorted_rows(lambda i, k=k: labels[i] == k == decision[i], surest_decision)[0] for k in (3, 2, 1)]
    assert min(len(wrong), len(missed), len(hits)) > 1
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "wrong": wrong[:5],
        "missed": missed[:5],
        "found": hits[:5],
        "right": right,
    }


def test_classes_that_are_never_right_have_no_right_picture():
    p = np.array([[0.6, 0.3, 0.1], [0.5, 0.2, 0.3]])
    found = surest_of_classes(p, np.array([0, 0]), np.array([0, 2]))
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "wrong": [1],
        "missed": [1],
        "found": [],
        "right": [0],
    }
