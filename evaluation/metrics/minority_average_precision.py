"""Average precision of the minority, the last of K > 2 classes, against the rest."""

from __future__ import annotations

from evaluation.metric import Metric

METRIC = Metric(
    name="minority_average_precision",
    title="minority average precision",
    short="min. av. pr.",
    order=90,
    higher_is_better=True,
    classes="more",
    explanation=(
        "Minority average precision is that of the minority class alone against the rest; guessing gives "
        "its share of the rows."
    ),
    compute=lambda sums: sums.average_precision(-1),
)
