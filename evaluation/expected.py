"""What a share means in use: alarms and misses per 1,000 images, and how often an alarm is right.

Recall and false-alarm rate do not depend on how rare the minority is; what people meet does. All figures here
follow from these two rates at a given share of the minority.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.comparison import clopper_pearson

Figure = list[float]
"""A value with its 95 % interval: [value, low, high]."""

PER = 1000.0


def rate_of(is_hit: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64]) -> Figure:
    """Share of images that were hit, with Clopper and Pearson's interval, in which a group counts as one.

    Args:
        is_hit: ``[N]``, at least one image.
        groups: ``[N]`` group index.
    """
    share, trials = float(is_hit.mean()), len(np.unique(groups))
    return [share, *clopper_pearson(share * trials, trials)]


def mixed(share: float, of_minority: Figure, of_normal: Figure) -> Figure:
    """``share * of_minority + (1 - share) * of_normal`` of two independent rates.

    The interval is by the method of variance estimates recovery (Zou & Donner 2008, eq. 5): each rate's own
    interval is carried over, so that a rate of 0 keeps its upper end.

    Args:
        share: of the minority, 0…1.
        of_minority: a rate on minority images.
        of_normal: the same on others.
    """
    weights = (share, 1.0 - share)
    value, below, above = 0.0, 0.0, 0.0
    for weight, (rate, low, high) in zip(weights, (of_minority, of_normal), strict=True):
        value += weight * rate
        below += (weight * (rate - low)) ** 2
        above += (weight * (high - rate)) ** 2
    return [value, max(0.0, value - math.sqrt(below)), min(1.0, value + math.sqrt(above))]


def precision_of(share: float, recall: Figure, false_alarms: Figure) -> Figure | None:
    """How many of the alarms are right; None where there is none.

    It falls with the ratio of both rates, whose interval is by the same method (Donner & Zou 2012).

    Args:
        share: of the minority, 0…1 exclusive.
        recall: on minority images.
        false_alarms: on others.
    """
    if recall[0] == false_alarms[0] == 0.0:
        return None
    odds = (1.0 - share) / share
    value = 0.0 if recall[0] == 0.0 else 1.0 / (1.0 + odds * false_alarms[0] / recall[0])
    least, most = _ratio_interval(false_alarms, recall)
    return [value, 0.0 if math.isinf(most) else 1.0 / (1.0 + odds * most), 1.0 / (1.0 + odds * least)]


def _ratio_interval(over: Figure, under: Figure) -> tuple[float, float]:
    """Interval of ``over / under`` (Donner & Zou 2012, eq. 9), written so that no difference cancels."""
    (a, a_low, a_high), (b, b_low, b_high) = over, under
    product = a * b
    # Both ends solve r² d - 2 r a b + n = 0.
    d, n = b_high * (2.0 * b - b_high), a_low * (2.0 * a - a_low)
    root = math.sqrt(max(0.0, product**2 - d * n))
    low = 0.0 if n <= 0.0 or product + root == 0.0 else n / (product + root)
    d, n = b_low * (2.0 * b - b_low), a_high * (2.0 * a - a_high)
    root = math.sqrt(max(0.0, product**2 - d * n))
    return max(0.0, low), math.inf if d <= 0.0 else (product + root) / d


def figures_at(
    share: float, recall: Figure, false_alarms: Figure, costs: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Figures of decisions at one share of the minority.

    Args:
        share: of the minority where images come from, 0…1 exclusive.
        recall: share of minority images that are decided so.
        false_alarms: share of other images that are decided to be of the minority.
        costs: of a false alarm and of a miss; None where nobody named any.

    Returns:
        ``{share, alarms, false_alarms, misses, precision, cost}``: per 1,000 images but for the precision,
        each [value, low, high]; precision None where nothing is decided so, cost None without costs.
    """
    missed = [1.0 - recall[0], 1.0 - recall[2], 1.0 - recall[1]]
    nothing = [0.0, 0.0, 0.0]
    cost = None
    if costs is not None:
        of_alarm, of_miss = costs
        scale = of_alarm + of_miss
        both = mixed(
            share, [v * of_miss / scale for v in missed], [v * of_alarm / scale for v in false_alarms]
        )
        cost = [PER * scale * value for value in both]
    return {
        "share": share,
        "alarms": _per_thousand(mixed(share, recall, false_alarms)),
        "false_alarms": _per_thousand(mixed(share, nothing, false_alarms)),
        "misses": _per_thousand(mixed(share, missed, nothing)),
        "precision": precision_of(share, recall, false_alarms),
        "cost": cost,
    }


def _per_thousand(figure: Figure) -> Figure:
    return [PER * value for value in figure]
