"""Which rows the galleries show."""

from __future__ import annotations

import numpy as np

from workflow.gallery import surest


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
