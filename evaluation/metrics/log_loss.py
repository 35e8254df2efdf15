"""Mean negative log-likelihood of the true class, in nats."""

from __future__ import annotations

import numpy as np

from evaluation.metric import Metric
from evaluation.rows import Float64Array, Rows


def row_log_loss(rows: Rows) -> Float64Array:
    """``[1, N]`` -ln p of the true class, with p kept off 0 as scikit-learn does."""
    own = rows.p[np.arange(len(rows.labels)), rows.labels]
    return np.asarray(-np.log(np.clip(own, np.finfo(np.float64).eps, 1.0)), dtype=np.float64)[None]


METRIC = Metric(
    name="log_loss",
    title="log loss",
    short="log loss",
    order=120,
    higher_is_better=False,
    classes="more",
    explanation=(
        "Log loss is the mean negative logarithm of the true class's probability, at the class shares of the "
        "images measured, in nats."
    ),
    compute=lambda sums: sums.mean(row_log_loss)[0],
)
