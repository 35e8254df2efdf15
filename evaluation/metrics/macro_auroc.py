"""Mean over classes of the AUROC of p_k, class k against the rest."""

from __future__ import annotations

import numpy as np

from evaluation.metric import Metric

METRIC = Metric(
    name="macro_auroc",
    title="macro AUROC",
    short="macro AUROC",
    order=70,
    higher_is_better=True,
    classes="more",
    explanation="Macro AUROC is the mean over classes of each class's AUROC against the rest.",
    compute=lambda sums: np.mean([sums.auroc(k) for k in range(sums.n_classes)], axis=0),
)
