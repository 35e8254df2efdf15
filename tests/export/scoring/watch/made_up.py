"""References and batches from normal distributions, whose truth is known."""

from __future__ import annotations

import numpy as np

from export.scoring.watch.batch import BatchCounts
from export.scoring.watch.reference import (
    LOG_ODDS,
    FloatArray64,
    Quantity,
    WatchReference,
    bin_counts,
    fine_counts,
)

N_NORMAL, N_MINORITY, FOLDS = 900, 60, 5
APART = 2.5
"""Distance of the classes' scores, in standard deviations."""

FACTS = ("brightness", "sharpness", "contrast")


def log_odds_of(score: FloatArray64) -> FloatArray64:
    """Exact log-odds at the class shares of training."""
    return np.asarray(APART * score - APART**2 / 2.0 + np.log(N_MINORITY / N_NORMAL), dtype=np.float64)


def drawn(random: np.random.Generator, n_normal: int, n_minority: int) -> tuple[FloatArray64, FloatArray64]:
    """``[N, 3]`` facts, of which the first differs between classes, and ``[N]`` scores; normal ones first."""
    is_minority = np.r_[np.zeros(n_normal), np.ones(n_minority)]
    facts = random.normal(size=(n_normal + n_minority, len(FACTS)))
    facts[:, 0] += is_minority
    return facts, random.normal(size=len(facts)) + APART * is_minority


def reference(seed: int = 0) -> WatchReference:
    """Of 900 normal images and 60 of the minority."""
    random = np.random.default_rng(seed)
    facts, score = drawn(random, N_NORMAL, N_MINORITY)
    of_class = np.r_[np.zeros(N_NORMAL, np.int64), np.ones(N_MINORITY, np.int64)]
    folds = np.arange(len(of_class)) % FOLDS
    log_odds = log_odds_of(score)
    quantities = [
        Quantity.fit(name, name, facts[:, at], of_class, 2, 0.05) for at, name in enumerate(FACTS)
    ] + [Quantity.fit(LOG_ODDS, "log-odds of bad", log_odds, of_class, 2, 0.05)]
    fine = [[fine_counts(log_odds[(folds == f) & (of_class == k)]) for k in (0, 1)] for f in range(FOLDS)]
    return WatchReference(tuple(quantities), "good", "bad", (1.0, 1.0), np.stack(fine))


def batch_of(kept: WatchReference, facts: FloatArray64, score: FloatArray64) -> BatchCounts:
    """Counts of these images."""
    columns = [*facts.T, log_odds_of(score)]
    counts = tuple(bin_counts(q.edges, c) for q, c in zip(kept.quantities, columns, strict=True))
    return BatchCounts(counts, fine_counts(log_odds_of(score)), len(score))


def batch(kept: WatchReference, random: np.random.Generator, n: int, share: float) -> BatchCounts:
    """Counts of n independent images of which each is of the minority with this probability."""
    n_minority = int(random.binomial(n, share))
    return batch_of(kept, *drawn(random, n - n_minority, n_minority))
