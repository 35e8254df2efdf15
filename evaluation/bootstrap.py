"""A stratified, group-clustered bootstrap, vectorised over replicates.

A replicate is a row of multiplicities: how often each row was drawn. Groups (patients, lots) are
drawn whole, within strata of equal class content, so that no replicate loses a class and rows that
belong together stay together (cluster bootstrap, Davison & Hinkley 1997). Metrics then
become weighted metrics, computed for a block of replicates at once (:mod:`evaluation.sums`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from contracts.rows import LabelArray
from evaluation.rows import Float64Array

CONFIDENCE = 0.95
"""Of every interval that is read off replicates."""

# 2**21 float64 weights are 16 MiB; a handful of such arrays live at once.
WEIGHTS_PER_BLOCK = 2**21


def _group_strata(
    labels: LabelArray, groups: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], LabelArray]:
    """``[N]`` dense group index of each row and ``[G]`` stratum of each group: the classes it holds."""
    _, group_of_row = np.unique(groups, return_inverse=True)
    n_groups = int(group_of_row.max()) + 1
    classes, class_of_row = np.unique(labels, return_inverse=True)
    holds = np.zeros((n_groups, len(classes)), dtype=bool)
    holds[group_of_row, class_of_row] = True
    # Groups are stratified by *which classes they hold*: drawing such groups among each other keeps every
    # class in every replicate, also where one patient has images of two classes.
    _, stratum_of_group = np.unique(holds, axis=0, return_inverse=True)
    return group_of_row.astype(np.int64), stratum_of_group.astype(np.int64)


def replicate_weights(
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    *,
    n_replicates: int,
    seed: int,
    weights_per_block: int = WEIGHTS_PER_BLOCK,
) -> Iterator[Float64Array]:
    """Yield blocks ``[b, N]`` of row multiplicities until there are ``n_replicates`` of them.

    Args:
        labels: ``[N]`` class index.
        groups: ``[N]`` group index; rows of one group are always drawn together.
        n_replicates: B, 2,000 for published intervals.
        seed: the replicates follow from it alone, whatever the block size.
        weights_per_block: bound on b * N, hence on memory.

    Yields:
        float64 multiplicities; each replicate draws as many groups per stratum as the stratum has.
    """
    group_of_row, stratum_of_group = _group_strata(labels, groups)
    n_groups = len(stratum_of_group)
    # One stream per stratum: drawing b replicates and then b more equals drawing 2b at once.
    strata = [
        (np.flatnonzero(stratum_of_group == stratum), np.random.default_rng([seed, int(stratum)]))
        for stratum in np.unique(stratum_of_group)
    ]
    block = max(1, weights_per_block // max(1, len(labels)))
    for start in range(0, n_replicates, block):
        b = min(block, n_replicates - start)
        multiplicity = np.empty((b, n_groups), dtype=np.float64)
        for members, rng in strata:
            n = len(members)
            # Offsets keep the replicates apart, so that a single bincount counts all b of them.
            drawn = rng.integers(0, n, size=(b, n)) + np.arange(b)[:, None] * n
            multiplicity[:, members] = np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n)
        yield multiplicity[:, group_of_row]


def central_interval(
    replicates: Float64Array | list[float], axis: int = 0
) -> tuple[Float64Array, Float64Array]:
    """The central 95 % of replicates: what a bootstrap says of the figure that they replicate.

    Args:
        replicates: ``[B, ...]`` one figure for each replicate; NaN says nothing.
        axis: of the replicates.

    Returns:
        Lower and upper end, without that axis.
    """
    tail = 100.0 * (1.0 - CONFIDENCE) / 2.0
    low, high = np.nanpercentile(replicates, [tail, 100.0 - tail], axis=axis)
    return low, high
