"""Recall of the minority (TPR) at its threshold."""

from __future__ import annotations

from evaluation.metric import Metric

METRIC = Metric(
    name="recall",
    title="recall",
    short="recall",
    order=40,
    higher_is_better=True,
    classes="two",
    explanation="Recall is the share of the minority images that were flagged.",
    compute=lambda sums: sums.recalls[-1],
)
