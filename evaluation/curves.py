"""Curves of two-class probabilities with pointwise bootstrap bands: PR, ROC, reliability, cost, decision.

All curves come from one sort of the scores and from the replicates of :mod:`evaluation.bootstrap`, so
groups are drawn whole, as for the intervals of the results table. They are evaluated on fixed grids,
which bounds the size of a picture of them however many rows there are.

The *cost curve* and the *decision curve* move the threshold to where it is optimal for a perfectly
calibrated probability, instead of to the best place that hindsight finds; poor calibration shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from contracts.errors import UsageError
from contracts.rows import LabelArray
from evaluation.bootstrap import replicate_weights
from evaluation.metrics import Float64Array, check_two_classes, ece_bin_of_row

CONFIDENCE = 0.95
GRID = np.linspace(0.0, 1.0, 101)
# Recall 0 has no precision, probability 1 no odds; a curve starts or ends one step beside them.
RECALLS = GRID[1:]
FALSE_ALARM_RATES = GRID
PROBABILITY_COSTS = GRID[1:-1]
THRESHOLDS = GRID[1:-1]


@dataclass(frozen=True)
class Band:
    """A curve with its pointwise 95 % bootstrap band, all of one length.

    Attributes:
        x: where.
        y: on the rows themselves.
        low: 2.5 % percentile of the replicates.
        high: 97.5 % percentile of the replicates.
    """

    x: Float64Array
    y: Float64Array
    low: Float64Array
    high: Float64Array


@dataclass(frozen=True)
class Curves:
    """Everything drawn of one model.

    Attributes:
        precision_recall: precision over recall; its area is the average precision.
        roc: true positive rate over false positive rate.
        reliability: observed share of the minority over mean probability, a point a bin.
        cost: normalised expected cost over the probability-cost of the minority.
        net_benefit: net benefit a row over the threshold probability.
    """

    precision_recall: Band
    roc: Band
    reliability: Band
    cost: Band
    net_benefit: Band


class WeightedCurves:
    """All curves of one model under many row weightings.

    Args:
        labels: ``[N]`` 0 or 1 = minority.
        p: ``[N]`` minority probabilities.
        prior: share of the minority that costs and benefits are counted at, 0…1 exclusive. The rates of
            the two classes do not depend on it, so it may differ from the rows' own share.
    """

    def __init__(self, labels: LabelArray, p: Float64Array, prior: float) -> None:
        self._prior = prior
        self._order = np.argsort(-p, kind="stable")
        descending = p[self._order]
        self._is_positive = labels[self._order] == 1
        # Rows with equal p are flagged together: a curve may bend only where p changes.
        ends_of_ties = np.flatnonzero(np.append(descending[1:] != descending[:-1], True)) + 1
        self._n_flagged = np.concatenate([[0], ends_of_ties])
        self._n_flagged_at = {
            "cost": _count_at_least(descending, threshold_of_probability_cost(PROBABILITY_COSTS, prior)),
            "net_benefit": _count_at_least(descending, THRESHOLDS),
        }
        bins, n_bins = ece_bin_of_row(p)
        members = np.zeros((len(p), n_bins))
        members[np.arange(len(p)), bins] = 1.0
        # Rows with equal p share a bin, which can leave others without any.
        self._bin_members = members[:, members.any(axis=0)]
        self._labels = labels
        self.mean_p_of_bin: Float64Array = p @ self._bin_members / self._bin_members.sum(axis=0)

    def __call__(self, weights: Float64Array) -> dict[str, Float64Array]:
        """Return each curve of :class:`Curves` as ``[B, G]`` values on its grid.

        Args:
            weights: ``[B, N]`` non-negative row weights; each class needs weight in every replicate. A
                reliability bin without weight gives NaN.
        """
        sorted_weights = weights[:, self._order]
        hits = _cumulative(sorted_weights * self._is_positive)
        alarms = _cumulative(sorted_weights * ~self._is_positive)
        tpr, fpr = hits / hits[:, -1:], alarms / alarms[:, -1:]
        at_cost, at_threshold = self._n_flagged_at["cost"], self._n_flagged_at["net_benefit"]
        odds = THRESHOLDS / (1.0 - THRESHOLDS)
        in_bin = weights @ self._bin_members
        minority_in_bin = (weights * self._labels) @ self._bin_members
        return {
            "precision_recall": precision_at_recall(hits[:, self._n_flagged], alarms[:, self._n_flagged]),
            "roc": _tpr_at_fpr(tpr[:, self._n_flagged], fpr[:, self._n_flagged]),
            "reliability": np.divide(
                minority_in_bin, in_bin, out=np.full_like(in_bin, np.nan), where=in_bin > 0
            ),
            "cost": (1.0 - tpr[:, at_cost]) * PROBABILITY_COSTS + fpr[:, at_cost] * (1.0 - PROBABILITY_COSTS),
            "net_benefit": self._prior * tpr[:, at_threshold]
            - (1.0 - self._prior) * fpr[:, at_threshold] * odds,
        }


def threshold_of_probability_cost(probability_cost: Float64Array, prior: float) -> Float64Array:
    """Return the probability threshold that is optimal at a probability-cost, for calibrated probabilities.

    The probability-cost of the minority (Drummond & Holte 2006) is

        PC = prior C_miss / (prior C_miss + (1 - prior) C_false_alarm),

    and the optimal threshold is C_false_alarm / (C_false_alarm + C_miss); eliminating the costs,
    t = o / (o + PC / (1 - PC)) with o = prior / (1 - prior).

    Args:
        probability_cost: ``[G]`` 0…1 exclusive.
        prior: share of the minority that the probabilities answer for, 0…1 exclusive.
    """
    odds = prior / (1.0 - prior)
    threshold: Float64Array = odds / (odds + probability_cost / (1.0 - probability_cost))
    return threshold


def net_benefit_of_flagging_all(thresholds: Float64Array, prior: float) -> Float64Array:
    """``[G]`` net benefit a row of calling every row the minority; of calling none it is 0.

    Source: Vickers & Elkin 2006, with the prior in place of the rows' own share.
    """
    benefit: Float64Array = prior - (1.0 - prior) * thresholds / (1.0 - thresholds)
    return benefit


def curves(
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    p_of_model: Mapping[str, Float64Array],
    *,
    prior: float,
    seed: int,
    n_replicates: int,
) -> dict[str, Curves]:
    """Compute every model's curves; the same replicates serve all models.

    Args:
        labels: ``[N]`` 0 or 1 = minority, of test rows.
        groups: ``[N]`` group index; rows of one group are drawn together.
        p_of_model: model name → ``[N]`` minority probabilities at ``prior``.
        prior: share of the minority that the probabilities answer for, 0…1 exclusive.
        seed: of the bootstrap.
        n_replicates: of the bootstrap, at least 1.

    Raises:
        UsageError: the prior is no share.
        DataError: a class is missing or probabilities are not probabilities.
    """
    if not 0.0 < prior < 1.0:
        raise UsageError(f"curves: prior is {prior:g}; give a share between 0 and 1, both excluded.")
    evaluators: dict[str, WeightedCurves] = {}
    for name, p in p_of_model.items():
        check_two_classes(labels, p)
        evaluators[name] = WeightedCurves(labels, np.asarray(p, np.float64), prior)
    parts: dict[str, list[dict[str, Float64Array]]] = {name: [] for name in evaluators}
    for weights in replicate_weights(labels, groups, n_replicates=n_replicates, seed=seed):
        for name, evaluate in evaluators.items():
            parts[name].append(evaluate(weights))
    whole_sample = np.ones((1, len(labels)))
    drawn = {}
    for name, evaluate in evaluators.items():
        values = evaluate(whole_sample)
        x_of_curve = {
            "precision_recall": RECALLS,
            "roc": FALSE_ALARM_RATES,
            "reliability": evaluate.mean_p_of_bin,
            "cost": PROBABILITY_COSTS,
            "net_benefit": THRESHOLDS,
        }
        bands = {
            curve: central_band(x, values[curve][0], np.concatenate([part[curve] for part in parts[name]]))
            for curve, x in x_of_curve.items()
        }
        drawn[name] = Curves(**bands)
    return drawn


def central_band(x: Float64Array, y: Float64Array, replicates: Float64Array) -> Band:
    """The central 95 % of ``[B, G]`` replicates around a curve; NaN replicates say nothing."""
    tail = 100.0 * (1.0 - CONFIDENCE) / 2.0
    # A bin is empty in some replicates, never in all: every row is drawn in most of them.
    low, high = np.nanpercentile(replicates, [tail, 100.0 - tail], axis=0)
    return Band(x, y, low, high)


def _count_at_least(descending: Float64Array, thresholds: Float64Array) -> npt.NDArray[np.int64]:
    """``[G]`` how many of the sorted probabilities are >= each threshold."""
    return np.searchsorted(-descending, -thresholds, side="right").astype(np.int64)


def _cumulative(weights: Float64Array) -> Float64Array:
    """``[B, N + 1]`` weight among the first 0…N rows."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def precision_at_recall(hits: Float64Array, alarms: Float64Array) -> Float64Array:
    """``[B, G]`` precision at the highest threshold whose recall reaches each of :data:`RECALLS`.

    A step function and no interpolation, which would be too kind between thresholds (Davis & Goadrich
    2006). Its area over all recalls is the average precision.
    """
    precision = np.empty((len(hits), len(RECALLS)))
    for row, (tp, fp) in enumerate(zip(hits, alarms, strict=True)):
        # Multiplicities are whole numbers; a hair below a whole number must not reach for the next one.
        reached = np.searchsorted(tp, RECALLS * tp[-1] - 1e-9, side="left")
        precision[row] = tp[reached] / (tp[reached] + fp[reached])
    return precision


def _tpr_at_fpr(tpr: Float64Array, fpr: Float64Array) -> Float64Array:
    """``[B, G]`` the ROC polygon at each of :data:`FALSE_ALARM_RATES`; its upper end where it is upright."""
    heights = np.empty((len(tpr), len(FALSE_ALARM_RATES)))
    for row, (up, right) in enumerate(zip(tpr, fpr, strict=True)):
        left_end = np.searchsorted(right, FALSE_ALARM_RATES + 1e-12, side="right") - 1
        right_end = np.minimum(left_end + 1, len(right) - 1)
        run = right[right_end] - right[left_end]
        part = np.divide(FALSE_ALARM_RATES - right[left_end], run, out=np.zeros_like(run), where=run > 0)
        heights[row] = up[left_end] + np.clip(part, 0.0, 1.0) * (up[right_end] - up[left_end])
    return heights
