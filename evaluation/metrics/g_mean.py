"""Geometric mean of recall and specificity, sqrt(TPR * TNR)."""

from __future__ import annotations

import numpy as np

from evaluation.metric import Metric

METRIC = Metric(
    name="g_mean",
    title="G-mean",
    short="G-mean",
    order=150,
    higher_is_better=True,
    classes="two",
    explanation="G-mean is the geometric mean of recall and specificity.",
    compute=lambda sums: np.sqrt(sums.recalls[0] * sums.recalls[1]),
)
