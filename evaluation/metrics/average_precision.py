"""Average precision of the minority, as scikit-learn defines it: no interpolation."""

from __future__ import annotations

from evaluation.metric import Metric

METRIC = Metric(
    name="average_precision",
    title="average precision",
    short="av. prec.",
    order=20,
    higher_is_better=True,
    classes="two",
    explanation=(
        "Average precision is the step-wise area under the precision-recall curve of the minority; guessing "
        "gives its share of the rows."
    ),
    compute=lambda sums: sums.average_precision(-1),
)
