"""F1 of the minority at its threshold; 0 where nothing is flagged."""

from __future__ import annotations

from evaluation.metric import Metric

METRIC = Metric(
    name="f1",
    title="F1",
    short="F1",
    order=140,
    higher_is_better=True,
    classes="two",
    explanation="F1 is the harmonic mean of the minority's precision and recall.",
    compute=lambda sums: sums.f1[-1],
)
