"""SMOTE and ADASYN between rows of a class; the sampling itself is imbalanced-learn's.

Source: Chawla et al. 2002 (SMOTE, https://arxiv.org/abs/1106.1813); He et al. 2008 (ADASYN). A new row lies
on the segment between a row and one of its k nearest neighbours of the same class. SMOTE draws the first row
uniformly. ADASYN makes g_i = G r_i / sum(r) new rows from row i, rounded, where r_i is the share of other
classes among its k nearest neighbours in all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from imblearn.over_sampling import ADASYN, SMOTE

from contracts.errors import DataError
from contracts.rows import FloatArray, IndexArray, LabelArray
from supervised.synthetic.settings import SamplerName


@dataclass(frozen=True)
class Sampled:
    """New rows.

    Attributes:
        points: ``[m, d]`` float32, class by class.
        labels: ``[m]`` class index.
        neighbours: class → k that was used, for every class with new rows.
    """

    points: FloatArray
    labels: LabelArray
    neighbours: dict[int, int]


def target_counts(counts: IndexArray, cap: float) -> IndexArray:
    """``[K]`` rows per class after sampling: ``cap`` times the largest class, or its own size if larger.

    Args:
        counts: ``[K]`` rows per class.
        cap: in (0, 1].
    """
    return np.maximum(counts, round(cap * int(counts.max()))).astype(np.int64)


def sample_between(
    points: FloatArray,
    labels: LabelArray,
    n_classes: int,
    *,
    sampler: SamplerName,
    neighbours: int,
    cap: float,
    seed: int,
    report: Callable[[str], None],
) -> Sampled:
    """New rows of every class below ``cap``.

    Two rules apply to small classes, and ``report`` says when they do. A class of n <= k rows uses n - 1
    neighbours. If ADASYN's counts are undefined (no row of the class has a neighbour of another class) or all
    round to 0, its rows are equally hard, and SMOTE draws them with equal probability. ADASYN's rounding may
    miss the target by a few rows.

    Args:
        points: ``[n, d]`` float32; distances are Euclidean in these coordinates.
        labels: ``[n]`` class index, 0…K-1.
        n_classes: K.
        sampler: ``smote`` or ``adasyn``.
        neighbours: k.
        cap: see :func:`target_counts`.
        seed: of the draws; a class's draws do not depend on which other classes get new rows.
        report: receives a sentence when a rule for small classes applies.

    Raises:
        DataError: a class that needs new rows has fewer than 2 rows.
    """
    counts = np.bincount(labels, minlength=n_classes)
    targets = target_counts(counts, cap)
    growing = [int(label) for label in np.flatnonzero(targets > counts)]
    for label in growing:
        if counts[label] < 2:
            raise DataError(
                f"{sampler}: class {label} has {counts[label]} training images, but at least 2 are needed to "
                "make new ones between them. Add images of it, use fewer folds, or leave synthetic out."
            )
    parts = [np.empty((0, points.shape[1]), dtype=np.float32)]
    used: dict[int, int] = {}
    for label in growing:
        # A row is not its own neighbour, so n rows have n - 1.
        used[label] = min(neighbours, int(counts[label]) - 1)
        if used[label] < neighbours:
            report(
                f"{sampler}: class {label} has {counts[label]} rows, so {used[label]} neighbours are used "
                f"instead of {neighbours}"
            )
        wanted = {label: int(targets[label])}
        new = _adasyn(points, labels, wanted, used[label], seed + label) if sampler == "adasyn" else None
        if new is None:
            if sampler == "adasyn":
                report(f"adasyn: no row of class {label} is harder than the others, so SMOTE is used")
            smote = SMOTE(sampling_strategy=wanted, k_neighbors=used[label], random_state=seed + label)
            new = smote.fit_resample(points, labels)[0][len(points) :]
        parts.append(new.astype(np.float32))
    sizes = [len(part) for part in parts[1:]]
    return Sampled(np.concatenate(parts), np.repeat(np.array(growing, dtype=np.int64), sizes), used)


def _adasyn(
    points: FloatArray, labels: LabelArray, wanted: dict[int, int], neighbours: int, seed: int
) -> FloatArray | None:
    """ADASYN's new rows; None if its counts are undefined or all 0."""
    adasyn = ADASYN(sampling_strategy=wanted, n_neighbors=neighbours, random_state=seed)
    try:
        new: FloatArray = adasyn.fit_resample(points, labels)[0][len(points) :]
    except RuntimeError as error:
        # imbalanced-learn refuses these two cases here; any other error is a bug of ours.
        if "belong to the majority" not in str(error):
            raise
        return None
    except ValueError as error:
        if "No samples will be generated" not in str(error):
            raise
        return None
    return new
