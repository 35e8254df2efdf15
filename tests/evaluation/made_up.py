"""Made-up rows for tests of the evaluation: any number of classes, with or without ties."""

from __future__ import annotations

import numpy as np

from contracts.rows import LabelArray
from evaluation.metrics import metrics_for
from evaluation.rows import Float64Array, Rows, class_probabilities
from evaluation.sums import WeightedRows

COUNTS_OF = {2: (80, 20), 3: (60, 30, 11), 4: (60, 30, 12, 7)}


def made_up(
    counts: tuple[int, ...], seed: int = 0, strength: float = 1.5, decimals: int | None = None
) -> Rows:
    """Rows in random order; the last class is favoured by the decision.

    Args:
        counts: rows of each class.
        seed: of everything.
        strength: how well the probabilities tell the classes apart; 0 is guessing.
        decimals: rounds probabilities, so that there are ties.
    """
    rng = np.random.default_rng(seed)
    k = len(counts)
    labels = rng.permutation(np.repeat(np.arange(k), counts))
    logits = strength * np.eye(k)[labels] + rng.normal(size=(len(labels), k))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if decimals is not None:
        p = np.round(p, decimals) + 10.0**-decimals
        p = np.round(p / p.sum(axis=1, keepdims=True), 12)
    decision = (p * np.arange(1, k + 1)).argmax(axis=1)
    return Rows.checked(labels, p, decision)


def two_classes(labels: LabelArray, p: Float64Array, threshold: float) -> Rows:
    """Rows of two classes from ``[N]`` probabilities of the minority."""
    return Rows.checked(labels, class_probabilities(p), (p >= threshold).astype(np.int64))


def values_of(rows: Rows) -> dict[str, float]:
    """Every metric of the rows as they are, by name."""
    sums = WeightedRows.once(rows)
    return {name: float(metric.compute(sums)[0]) for name, metric in metrics_for(rows.n_classes).items()}
