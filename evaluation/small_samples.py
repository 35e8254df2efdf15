"""Intervals of ranking figures that hold with a handful of minority images, where a bootstrap collapses.

A bootstrap of one minority image draws that image every time, so its interval knows nothing of the images
that might have come instead; with five it is still far too narrow. These intervals take the number of images
of each class as it is.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import norm

from evaluation.bootstrap import CONFIDENCE


def auroc_interval(
    auroc: float, n_minority: int, n_majority: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Interval of an AUROC by inverting a score test (Newcombe 2006, Statistics in Medicine 25, method 5).

    Its ends are the values θ at distance ``z * sqrt(V(θ))`` from the estimate, with Hanley and McNeil's
    variance V under exponential scores, in which both sample sizes are replaced by their mean where they
    stand in the numerator. Unlike a symmetric interval it never leaves [0, 1], and an AUROC of 1 has a lower
    end below 1.

    Args:
        auroc: estimate, 0…1.
        n_minority: independent minority images (groups), at least 1.
        n_majority: independent majority images, at least 1.
        confidence: of the two-sided interval.
    """
    z = float(norm.ppf(0.5 + confidence / 2.0))
    mean_size = (n_minority + n_majority) / 2.0

    def variance(theta: float) -> float:
        spread = (mean_size - 1.0) * ((1.0 - theta) / (2.0 - theta) + theta / (1.0 + theta))
        return theta * (1.0 - theta) * (1.0 + spread) / (n_minority * n_majority)

    def low_gap(theta: float) -> float:
        return theta + z * math.sqrt(variance(theta)) - auroc

    def high_gap(theta: float) -> float:
        return theta - z * math.sqrt(variance(theta)) - auroc

    # Both gaps are 0 at an end of [0, 1] where the estimate is that end; the search begins just inside.
    low = 0.0 if auroc <= 0.0 or low_gap(0.0) >= 0.0 else float(brentq(low_gap, 0.0, min(auroc, 1.0 - 1e-12)))
    high = 1.0 if auroc >= 1.0 or high_gap(1.0) <= 0.0 else float(brentq(high_gap, max(auroc, 1e-12), 1.0))
    return low, high


def average_precision_interval(
    precision: float, n_minority: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Interval of an average precision on the logit scale (Boyd, Eng & Page 2013, section 3.1).

    The standard error of its logit is taken as ``1 / sqrt(n p (1 - p))`` with n minority images. The estimate
    is moved half an image inwards first, so that 1 has an interval.

    Args:
        precision: estimate, 0…1.
        n_minority: independent minority images (groups), at least 1.
        confidence: of the two-sided interval.
    """
    z = float(norm.ppf(0.5 + confidence / 2.0))
    edge = 0.5 / (n_minority + 1.0)
    inner = min(max(precision, edge), 1.0 - edge)
    centre = math.log(inner / (1.0 - inner))
    reach = z / math.sqrt(n_minority * inner * (1.0 - inner))
    low, high = (1.0 / (1.0 + math.exp(-(centre + sign * reach))) for sign in (-1.0, 1.0))
    return min(low, precision), max(high, precision)
