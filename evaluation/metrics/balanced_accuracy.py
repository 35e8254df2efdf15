"""Mean class recall; for two classes (TPR + TNR) / 2. Also called average class-specific accuracy."""

from __future__ import annotations

from evaluation.metric import Metric

METRIC = Metric(
    name="balanced_accuracy",
    title="balanced accuracy",
    short="bal. acc.",
    order=30,
    higher_is_better=True,
    classes="any",
    explanation="Balanced accuracy is the mean class recall, so that every class counts alike.",
    compute=lambda sums: sums.recalls.mean(axis=0),
)
