"""SMOTE and ADASYN on the backbone's pooled features, for heads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from contracts.rows import FloatArray, LabelArray
from supervised.synthetic.latent import sample_between
from supervised.synthetic.settings import SyntheticSettings


def resample_features(
    pooled: FloatArray,
    labels: LabelArray,
    n_classes: int,
    settings: SyntheticSettings,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[FloatArray, LabelArray]:
    """Feature rows to add to the smaller classes.

    Neighbours are found on standardised features, because the unit of a feature should not decide which rows
    are near. New rows are returned in the units of ``pooled``.

    Args:
        pooled: ``[n, D]`` float32 of the training rows and no others.
        labels: ``[n]`` class index.
        n_classes: K.
        settings: ``sampler``, ``neighbours`` and ``cap`` are used.
        seed: of the draws.
        report: see :func:`supervised.synthetic.latent.sample_between`.

    Returns:
        ``[m, D]`` float32 new rows, and their ``[m]`` class indices.

    Raises:
        DataError: a class that needs new rows has fewer than 2 rows.
    """
    mean, spread = pooled.mean(axis=0), pooled.std(axis=0)
    # A constant feature does not affect which rows are near; dividing by 1 keeps its value.
    spread = np.where(spread > 1e-6, spread, np.float32(1.0))
    sampled = sample_between(
        (pooled - mean) / spread,
        labels,
        n_classes,
        sampler=settings.sampler,
        neighbours=settings.neighbours,
        cap=settings.cap,
        seed=seed,
        report=report,
    )
    # Back to the features' own scale, because the head standardises by itself.
    return (sampled.points * spread + mean).astype(np.float32), sampled.labels
