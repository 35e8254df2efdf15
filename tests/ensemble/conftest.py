"""Synthetic out-of-fold tables: known signal, known folds, fast."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.scores import ScoreColumn, ScoreTable


def build_table(
    n_neg=300,
    n_pos=36,
    *,
    strengths=(2.0, 1.5),
    anomaly_strengths=(1.0,),
    n_folds=5,
    seed=0,
    rows_per_group=1,
):
    """Two classes: logit members of the given strengths, then standardised anomaly scores."""
    rng = np.random.default_rng(seed)
    labels = np.r_[np.zeros(n_neg, np.int64), np.ones(n_pos, np.int64)]
    n = len(labels)
    groups = np.arange(n, dtype=np.int64) // rows_per_group
    folds = groups % n_folds
    shared = rng.normal(size=n) * 0.3
    columns, scores = [], []
    for i, strength in enumerate(strengths):
        columns.append(ScoreColumn(f"cnn{i}", "supervised", "logit"))
        scores.append(strength * (labels - 0.5) * 2 + rng.normal(size=n) + shared)
    for i, strength in enumerate(anomaly_strengths):
        columns.append(ScoreColumn(f"patchcore{i}", "oneclass", "anomaly_score"))
        scores.append(strength * labels + rng.normal(size=n))
    return ScoreTable(
        row_ids=np.array([f"{i}.png" for i in range(n)]),
        labels=labels,
        fold_of_row=folds,
        groups=groups,
        columns=tuple(columns),
        scores=np.stack(scores, axis=1).astype(np.float32),
        class_names=("good", "bad"),
        manifest_digest="0" * 16,
    )


def build_table_3(counts=(150, 80, 25), *, n_folds=4, seed=0, strengths=(2.0, 1.0), with_anomaly=True):
    """Three classes: K logits a supervised member, one anomaly column."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), counts)
    n = len(labels)
    columns, scores = [], []
    for i, strength in enumerate(strengths):
        logits = strength * np.eye(3)[labels] + rng.normal(size=(n, 3)) + 5 * rng.normal(size=(n, 1))
        for k, name in enumerate("abc"):
            columns.append(ScoreColumn(f"cnn{i}", "supervised", "logit", name))
            scores.append(logits[:, k])
    if with_anomaly:
        columns.append(ScoreColumn("patchcore", "oneclass", "anomaly_score"))
        scores.append(1.5 * (labels == 2) + rng.normal(size=n))
    return ScoreTable(
        row_ids=np.array([f"{i}.png" for i in range(n)]),
        labels=labels,
        fold_of_row=np.arange(n, dtype=np.int64) % n_folds,
        groups=np.arange(n, dtype=np.int64),
        columns=tuple(columns),
        scores=np.stack(scores, axis=1).astype(np.float32),
        class_names=("a", "b", "c"),
        manifest_digest="0" * 16,
    )


@pytest.fixture(scope="session")
def make_table():
    return build_table


@pytest.fixture(scope="session")
def make_table_3():
    return build_table_3
