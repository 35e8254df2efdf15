"""Half total error rate, (FPR + FNR) / 2, at a threshold fixed elsewhere."""

from __future__ import annotations

from evaluation.metric import Metric

METRIC = Metric(
    name="hter",
    title="HTER",
    short="HTER",
    order=170,
    higher_is_better=False,
    classes="two",
    explanation="HTER, the half total error rate, is 1 minus the balanced accuracy.",
    compute=lambda sums: 1.0 - sums.recalls.mean(axis=0),
)
