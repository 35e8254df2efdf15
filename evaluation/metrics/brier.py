"""Brier score: mean squared error of the probabilities."""

from __future__ import annotations

import numpy as np

from evaluation.metric import Metric
from evaluation.rows import Float64Array, Rows


def row_brier(rows: Rows) -> Float64Array:
    """``[1, N]`` squared errors: of the minority's probability, or summed over more classes (Brier 1950)."""
    squared = (rows.p - np.eye(rows.n_classes)[rows.labels]) ** 2
    # Both classes' errors are the same where there are two; one of them is what the field reports.
    return np.asarray(squared[:, 1] if rows.n_classes == 2 else squared.sum(axis=1), dtype=np.float64)[None]


METRIC = Metric(
    name="brier",
    title="Brier score",
    short="Brier",
    order=130,
    higher_is_better=False,
    classes="any",
    explanation=(
        "The Brier score is the mean squared error of the minority's probability (0 to 1); of more than two "
        "classes, the errors of all are summed (0 to 2). Probabilities "
        "are taken at the class shares of the images measured."
    ),
    compute=lambda sums: sums.mean(row_brier)[0],
)
