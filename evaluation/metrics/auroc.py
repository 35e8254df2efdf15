"""Area under the ROC curve (Mann-Whitney): ties count half."""

from __future__ import annotations

from evaluation.metric import Metric

METRIC = Metric(
    name="auroc",
    title="AUROC",
    short="AUROC",
    order=10,
    higher_is_better=True,
    classes="two",
    explanation=(
        "AUROC is the chance that a random minority image gets a higher probability than a random other "
        "one; 0.5 is guessing."
    ),
    compute=lambda sums: sums.auroc(-1),
)
