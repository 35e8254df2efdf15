"""Isotonic calibration as a strictly increasing, piecewise linear map in logit space.

Plain isotonic regression is a staircase: rows on one step become ties, which harms the ranking. Centred
isotonic regression (Oron & Flournoy 2017) connects the steps' centres by straight lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import logit as logit_of
from sklearn.isotonic import IsotonicRegression

from contracts.rows import LabelArray
from ensemble.calibration.calibrator import Calibrator, PlattCalibrator
from ensemble.logistic import MIN_SLOPE, Float64Array

# Largest slope of a segment, in units of the Platt slope. Two steps whose centres nearly touch would
# otherwise make a cliff, on which float32 noise of the members' scores becomes a jump of the probability.
MAX_SLOPE_OF_PLATT = 5.0


def smoothed_targets(labels: LabelArray) -> Float64Array:
    """Platt's (1999) targets: (n+ + 1) / (n+ + 2) for positives, 1 / (n- + 2) for negatives.

    They are posterior means under a uniform prior, and keep every step's value away from 0 and 1.

    Args:
        labels: ``[N]`` 0 or 1.
    """
    n_pos = int(labels.sum())
    n_neg = len(labels) - n_pos
    return np.where(labels == 1, (n_pos + 1.0) / (n_pos + 2.0), 1.0 / (n_neg + 2.0))


@dataclass(frozen=True)
class IsotonicCalibrator(Calibrator):
    """A line through ``knots`` → ``values``, continued with ``tail_slope`` at both ends.

    Attributes:
        knots: S increasing logits, the steps' centres.
        values: S increasing calibrated logits.
        tail_slope: > 0, Platt's slope on the same rows.
    """

    kind: ClassVar[str] = "isotonic"
    knots: tuple[float, ...]
    values: tuple[float, ...]
    tail_slope: float

    @classmethod
    def fit(cls, logit: Float64Array, labels: LabelArray) -> Self:
        """Pool adjacent violators on smoothed targets, then connect the centres.

        Platt's targets instead of 0 and 1 keep the value of every step strictly between 0 and 1.
        """
        # Isotonic regression says nothing beyond the outermost steps. A flat continuation would tie all
        # extreme images, which are the ones a review starts from; Platt's slope keeps them apart.
        tail_slope = PlattCalibrator.fit(logit, labels).slope
        targets = smoothed_targets(labels)
        # Rows of equal fitted value form one step.
        step_of_row = np.unique(IsotonicRegression().fit_transform(logit, targets), return_inverse=True)[1]
        # Every step is represented by the centre of its rows rather than by its edges (centred isotonic
        # regression), which turns the staircase into a strictly increasing line.
        count = np.bincount(step_of_row).astype(np.float64)
        centre = np.bincount(step_of_row, weights=logit) / count
        mean = np.bincount(step_of_row, weights=targets) / count
        centre, mean = _merge_cliffs(count, centre, mean, MAX_SLOPE_OF_PLATT * tail_slope)
        return cls(tuple(centre.tolist()), tuple(logit_of(mean).tolist()), tail_slope)

    def __call__(self, logit: Float64Array) -> Float64Array:
        """Interpolate between the knots, extrapolate by the tail slope."""
        knots, values = np.asarray(self.knots), np.asarray(self.values)
        # np.interp is constant outside the knots; the tails are added separately.
        below, above = np.minimum(logit - knots[0], 0.0), np.maximum(logit - knots[-1], 0.0)
        inside = np.interp(logit, knots, values)
        return np.asarray(inside + self.tail_slope * (below + above), dtype=np.float64)

    def state(self) -> dict[str, Any]:
        """Knots, values and the tail slope."""
        return {"knots": list(self.knots), "values": list(self.values), "tail_slope": self.tail_slope}


def _merge_cliffs(
    count: Float64Array, centre: Float64Array, mean: Float64Array, max_slope: float
) -> tuple[Float64Array, Float64Array]:
    """Merge neighbouring steps until every joining line's slope lies in MIN_SLOPE…max_slope.

    Args:
        count: ``[S]`` rows of each step.
        centre: ``[S]`` mean logit, increasing.
        mean: ``[S]`` mean target, increasing.
        max_slope: largest slope allowed, in calibrated logit per logit.

    Returns:
        Centres and means of the remaining steps, at least one.
    """
    while len(count) > 1:
        # Clipped, so that neighbours that are equal up to rounding count as too steep or too flat.
        rise, run = (np.maximum(np.diff(v), 1e-12) for v in (logit_of(mean), centre))
        slope = rise / run
        # Both ratios exceed 1 exactly where their limit is violated, so one argmax finds the worst segment of
        # either kind.
        off = np.maximum(slope / max_slope, MIN_SLOPE / slope)
        worst = int(np.argmax(off))
        if off[worst] <= 1.0:
            break
        pair = slice(worst, worst + 2)
        # Weighted by rows, so that merging keeps the overall mean of the targets (calibration in the large).
        merged = [float(np.average(values[pair], weights=count[pair])) for values in (centre, mean)]
        centre = np.r_[centre[:worst], merged[0], centre[worst + 2 :]]
        mean = np.r_[mean[:worst], merged[1], mean[worst + 2 :]]
        count = np.r_[count[:worst], count[pair].sum(), count[worst + 2 :]]
    return centre, mean
