"""Mean over classes of the average precision of p_k, class k against the rest."""

from __future__ import annotations

import numpy as np

from evaluation.metric import Metric

METRIC = Metric(
    name="macro_average_precision",
    title="macro average precision",
    short="m. av. prec.",
    order=80,
    higher_is_better=True,
    classes="more",
    explanation=(
        "Macro average precision is the mean over classes of each class's average precision against the rest."
    ),
    compute=lambda sums: np.mean([sums.average_precision(k) for k in range(sums.n_classes)], axis=0),
)
