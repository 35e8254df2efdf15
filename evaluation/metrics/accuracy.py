"""Share of all rows that were decided correctly."""

from __future__ import annotations

from evaluation.metric import Metric

METRIC = Metric(
    name="accuracy",
    title="accuracy",
    short="accuracy",
    order=110,
    higher_is_better=True,
    classes="more",
    explanation="Accuracy is the share of all rows that were decided correctly; common classes dominate it.",
    compute=lambda sums: sums.hits.sum(axis=0) / sums.total_weight,
)
