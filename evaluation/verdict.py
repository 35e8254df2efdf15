"""Plain verdicts on many comparisons with one baseline, corrected for having made many."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["better", "worse", "no difference shown"]


def bootstrap_p_value(differences: npt.NDArray[np.float64]) -> float:
    """Two-sided p-value of a paired difference from its bootstrap replicates.

    Twice the smaller share of replicates on either side of 0, zeros counted on both; one is added to
    counts and total, so that no finite number of replicates gives 0 (Davison & Hinkley 1997).

    Args:
        differences: ``[B]`` replicates of model minus baseline.
    """
    n = len(differences)
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2.0 * (min(below, above) + 1) / (n + 1))


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given.

    The chance of even one false "better" or "worse" among all comparisons stays at the level that the
    adjusted values are compared with (Holm 1979).

    Args:
        p_values: one per comparison, 0…1.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    running = 0.0
    for rank, position in enumerate(order):
        # Adjusted values may not fall along the order; a hypothesis is rejected only if all smaller p-values
        # were.
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = running
    return [float(value) for value in adjusted]


def verdict(difference: float, adjusted_p: float, higher_is_better: bool, level: float = 0.05) -> Verdict:
    """``better`` or ``worse`` than the baseline where shown, else ``no difference shown``.

    Args:
        difference: model minus baseline.
        adjusted_p: see :func:`holm`.
        higher_is_better: direction of the metric.
        level: of the whole family of comparisons.
    """
    # A difference of exactly 0 has no direction, whatever its p-value.
    if adjusted_p >= level or difference == 0.0:
        return "no difference shown"
    return "better" if (difference > 0) == higher_is_better else "worse"
