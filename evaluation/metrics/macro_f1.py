"""Mean over classes of F1; a class that is never decided counts 0."""

from __future__ import annotations

from evaluation.metric import Metric

METRIC = Metric(
    name="macro_f1",
    title="macro F1",
    short="macro F1",
    order=60,
    higher_is_better=True,
    classes="more",
    explanation="Macro F1 is the mean over classes of each class's F1.",
    compute=lambda sums: sums.f1.mean(axis=0),
)
