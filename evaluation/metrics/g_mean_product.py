"""Geometric mean of the K class recalls, (prod of the recalls)^(1/K)."""

from __future__ import annotations

import numpy as np

from evaluation.metric import Metric
from evaluation.rows import Float64Array


def product_g_mean(recalls: Float64Array) -> Float64Array:
    """``[B]`` geometric means of ``[K, B]`` class recalls."""
    # Zeros need no care: the root of 0 is 0, and a mean of logarithms would have to avoid it.
    means: Float64Array = np.prod(recalls, axis=0) ** (1.0 / len(recalls))
    return means


METRIC = Metric(
    name="g_mean_product",
    title="G-mean, product",
    short="G-mean prod.",
    order=50,
    higher_is_better=True,
    classes="more",
    explanation=(
        "The product G-mean is the geometric mean of the class recalls: 0 as soon as one class is never "
        "found."
    ),
    compute=lambda sums: product_g_mean(sums.recalls),
)
