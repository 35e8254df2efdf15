"""Root of mean recall times mean specificity, each class against the rest.

What ``imblearn.metrics.geometric_mean_score(..., average="macro")`` computes, and papers that use it report.
"""

from __future__ import annotations

import numpy as np

from evaluation.metric import Metric

METRIC = Metric(
    name="g_mean_macro",
    title="G-mean, macro",
    short="G-mean macro",
    order=100,
    higher_is_better=True,
    classes="more",
    explanation=(
        "The macro G-mean is imbalanced-learn's, the root of mean recall times mean specificity; it stays "
        "high where a rare class is never found."
    ),
    compute=lambda sums: np.sqrt(sums.recalls.mean(axis=0) * sums.specificities.mean(axis=0)),
)
