"""Means over problems, with intervals that know which of them share a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_REPLICATES = 4000


@dataclass(frozen=True)
class Interval:
    """A mean over problems and its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is shown."""
        return self.low > 0.0 or self.high < 0.0


def interval_of(values: npt.NDArray[np.floating], data_sets: Sequence[str], seed: int = 0) -> Interval:
    """Mean over problems with a bootstrap interval: data sets are drawn, then problems within each.

    Problems of one data set share images, so that they alone would claim more certainty than there is.

    Args:
        values: ``[P]``.
        data_sets: ``[P]`` names.
        seed: of the replicates.
    """
    rng = np.random.default_rng(seed)
    names, set_of = np.unique(np.asarray(data_sets), return_inverse=True)
    # [R, S] which sets each replicate consists of.
    drawn = rng.integers(0, len(names), (_REPLICATES, len(names)))
    sums, sizes = np.zeros(_REPLICATES), np.zeros(_REPLICATES)
    for number in range(len(names)):
        own = values[set_of == number]
        replicate, _ = np.nonzero(drawn == number)
        within = own[rng.integers(0, len(own), (len(replicate), len(own)))]
        np.add.at(sums, replicate, within.sum(axis=1))
        np.add.at(sizes, replicate, len(own))
    low, high = np.quantile(sums / sizes, (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high))
