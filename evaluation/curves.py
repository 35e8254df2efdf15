"""Curves of class probabilities with pointwise bootstrap bands.

Precision over recall and reliability for any number of classes; ROC, cost and decision curves for two. All
come from the replicates of :mod:`evaluation.bootstrap`, so groups are drawn whole, as for the intervals of
the results table. They are evaluated on fixed grids, which bounds the size of a picture of them however many
rows there are.

The *cost curve* and the *decision curve* move the threshold to where it is optimal for a perfectly
calibrated probability, instead of to the best place that hindsight finds; poor calibration shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from contracts.errors import UsageError
from contracts.rows import LabelArray
from evaluation.bootstrap import central_interval, replicate_weights
from evaluation.ranking import ranking_figures
from evaluation.rows import Float64Array, Rows, calibrated_event, ece_bin_of_row
from evaluation.sums import WEIGHTS_PER_BLOCK, binned

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
class TradeOffs:
    """Curves that weigh one kind of error against the other, so that they exist for two classes only.

    K classes have K (K - 1) kinds of error, and no single curve shows them.

    Attributes:
        roc: true positive rate over false positive rate.
        cost: normalised expected cost over the probability-cost of the minority.
        net_benefit: net benefit per row over the threshold probability.
    """

    roc: Band
    cost: Band
    net_benefit: Band


@dataclass(frozen=True)
class Curves:
    """Everything drawn of one model.

    Attributes:
        precision_recall: class index → precision over recall of that class against the rest; its area is the
            average precision. For two classes the minority's alone.
        average_precision: class index → the area under that curve.
        reliability: share that came true over mean probability, one point per bin: of the minority's
            probability, or of the most probable of more than two classes.
        trade_offs: None for more than two classes.
    """

    precision_recall: dict[int, Band]
    average_precision: dict[int, float]
    reliability: Band
    trade_offs: TradeOffs | None


class WeightedCurves:
    """All curves of one model under many row weightings.

    A curve changes only at the scores of some rows ("levels"). A block of replicates therefore costs a few
    sparse matrices times the weights, whose sums are the weight of the rows between two levels.

    Args:
        rows: checked.
        prior: share of the minority that costs and benefits of two classes are counted at, 0…1 exclusive. The
            rates of the two classes do not depend on it, so it may differ from the rows' own share.
        p_at_own_shares: ``[N, K]`` the same probabilities at the rows' own class shares, whose reliability is
            drawn; None where those of the rows are.
    """

    def __init__(self, rows: Rows, prior: float | None, p_at_own_shares: Float64Array | None = None) -> None:
        self._prior = prior
        # Trade-off curves are drawn of two classes alone, and only they need the scores of both.
        two = rows.n_classes == 2
        # The ROC bends at scores of either class, precision over recall only at the class's own.
        self._at_levels = {
            label: _AtLevels(rows.labels == label, rows.p[:, label], every_score=two)
            for label in ([1] if two else range(rows.n_classes))
        }
        p, came_true = calibrated_event(rows if p_at_own_shares is None else replace(rows, p=p_at_own_shares))
        # Rows of equal p share a bin, which can leave others without any.
        _, dense, in_bin = np.unique(ece_bin_of_row(p)[0], return_inverse=True, return_counts=True)
        self._in_bin = binned(np.ones(len(p)), dense, len(in_bin))
        self._true_in_bin = binned(came_true.astype(np.float64), dense, len(in_bin))
        self.mean_p_of_bin: Float64Array = np.bincount(dense, weights=p) / in_bin

    def __call__(self, weights_NB: Float64Array) -> dict[str | int, Float64Array]:
        """Compute every curve for B replicates.

        Args:
            weights_NB: ``[N, B]`` non-negative row weights; each class needs weight in every replicate.

        Returns:
            ``[B, G]`` values on the curve's grid. Keys are the class indices of precision over recall,
            ``reliability`` (a bin without weight gives NaN) and, for two classes, the fields of
            :class:`TradeOffs`.
        """
        in_bin, came_true = ((sums @ weights_NB).T for sums in (self._in_bin, self._true_in_bin))
        values: dict[str | int, Float64Array] = {
            "reliability": np.divide(came_true, in_bin, out=np.full_like(in_bin, np.nan), where=in_bin > 0)
        }
        for label, at_levels in self._at_levels.items():
            hits, alarms = at_levels(weights_NB)
            values[label] = precision_at_recall(hits, alarms)
            if self._prior is not None:
                # The rates of the two classes are weighted by the prior, not by their share of the test rows.
                values |= _trade_offs(at_levels, hits, alarms, self._prior)
        return values


class _AtLevels:
    """What is flagged at each score as the threshold falls: the class's own rows, and others.

    Args:
        is_own: ``[N]`` True for rows of the class.
        scores: ``[N]`` its probability.
        every_score: take the scores of all rows as levels; else only those of the class's own rows.
    """

    def __init__(self, is_own: npt.NDArray[np.bool_], scores: Float64Array, every_score: bool) -> None:
        self.descending: Float64Array = np.unique(scores if every_score else scores[is_own])[::-1]
        # The first level that a row reaches; rows below all of them are never flagged before the end.
        level = np.searchsorted(-self.descending, -scores, side="left")
        n_levels = len(self.descending)
        row = np.flatnonzero(level < n_levels)
        self._own, self._others = (
            csr_array((np.ones(len(members)), (level[members], members)), shape=(n_levels, len(scores)))
            for members in (row[is_own[row]], row[~is_own[row]])
        )

    def __call__(self, weights_NB: Float64Array) -> tuple[Float64Array, Float64Array]:
        """``[B, L]`` weight of own and of other rows with a score of each level or more."""
        own, others = (
            np.cumsum(np.asarray(sums @ weights_NB).T, axis=1) for sums in (self._own, self._others)
        )
        return own, others


def _trade_offs(
    at_levels: _AtLevels, hits: Float64Array, alarms: Float64Array, prior: float
) -> dict[str | int, Float64Array]:
    """``[B, G]`` values of each curve of :class:`TradeOffs`; levels are the scores of all rows."""
    # Before the first level nothing is flagged.
    # A threshold above all scores, the ROC's corner (0, 0), which no level stands for.
    nothing = np.zeros((len(hits), 1))
    tpr = np.concatenate([nothing, hits / hits[:, -1:]], axis=1)
    fpr = np.concatenate([nothing, alarms / alarms[:, -1:]], axis=1)
    at_cost = _count_at_least(at_levels.descending, threshold_of_probability_cost(PROBABILITY_COSTS, prior))
    at_threshold = _count_at_least(at_levels.descending, THRESHOLDS)
    odds = THRESHOLDS / (1.0 - THRESHOLDS)
    return {
        "roc": _tpr_at_fpr(tpr, fpr),
        "cost": (1.0 - tpr[:, at_cost]) * PROBABILITY_COSTS + fpr[:, at_cost] * (1.0 - PROBABILITY_COSTS),
        "net_benefit": prior * tpr[:, at_threshold] - (1.0 - prior) * fpr[:, at_threshold] * odds,
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
    """``[G]`` net benefit per row of calling every row the minority; of calling none it is 0.

    Source: Vickers & Elkin 2006, with the prior in place of the rows' own share.
    """
    benefit: Float64Array = prior - (1.0 - prior) * thresholds / (1.0 - thresholds)
    return benefit


def curves(
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    p_of_model: Mapping[str, Float64Array],
    *,
    prior: float | None,
    seed: int,
    n_replicates: int,
    p_at_own_shares: Mapping[str, Float64Array] | None = None,
) -> dict[str, Curves]:
    """Compute every model's curves; the same replicates serve all models.

    Args:
        labels: ``[N]`` class index of test rows, minority last.
        groups: ``[N]`` group index; rows of one group are drawn together.
        p_of_model: model name → ``[N, K]`` probabilities, at ``prior`` for two classes.
        prior: for two classes the share of the minority that the probabilities answer for, 0…1 exclusive;
            None for more.
        seed: of the bootstrap.
        n_replicates: of the bootstrap, at least 1.
        p_at_own_shares: model name → the same probabilities at the rows' own class shares, for reliability.

    Raises:
        UsageError: the prior is no share, or there is one for more than two classes or none for two.
        DataError: a class is missing or probabilities are not probabilities.
    """
    evaluators: dict[str, WeightedCurves] = {}
    for name, p in p_of_model.items():
        rows = Rows.checked(labels, p, labels)  # decisions are not drawn
        _check_prior(prior, rows.n_classes)
        own = None if p_at_own_shares is None else p_at_own_shares[name]
        evaluators[name] = WeightedCurves(rows, prior, own)
    parts: dict[str, list[dict[str | int, Float64Array]]] = {name: [] for name in evaluators}
    for weights in replicate_weights(
        labels, groups, n_replicates=n_replicates, seed=seed, weights_per_block=WEIGHTS_PER_BLOCK
    ):
        weights_NB = np.ascontiguousarray(weights.T)
        for name, evaluate in evaluators.items():
            parts[name].append(evaluate(weights_NB))
    return {
        name: _banded(evaluate, np.asarray(p_of_model[name]), labels, parts[name])
        for name, evaluate in evaluators.items()
    }


def _check_prior(prior: float | None, n_classes: int) -> None:
    if (prior is None) != (n_classes > 2):
        raise UsageError(
            f"curves: prior is {prior} for {n_classes} classes. Give a share for two classes, None for more."
        )
    if prior is not None and not 0.0 < prior < 1.0:
        raise UsageError(f"curves: prior is {prior:g}; give a share between 0 and 1, both excluded.")


def _banded(
    evaluate: WeightedCurves,
    p: Float64Array,
    labels: LabelArray,
    parts: Sequence[dict[str | int, Float64Array]],
) -> Curves:
    """One model's curves on the rows as they are, with bands from its replicates."""
    x_of_curve: dict[str | int, Float64Array] = {
        "reliability": evaluate.mean_p_of_bin,
        "roc": FALSE_ALARM_RATES,
        "cost": PROBABILITY_COSTS,
        "net_benefit": THRESHOLDS,
    }
    values = evaluate(np.ones((len(labels), 1)))
    bands = {
        curve: central_band(
            x_of_curve.get(curve, RECALLS), of_rows[0], np.concatenate([part[curve] for part in parts])
        )
        for curve, of_rows in values.items()
    }
    classes = [curve for curve in values if isinstance(curve, int)]
    return Curves(
        precision_recall={label: bands[label] for label in classes},
        average_precision={
            label: ranking_figures(labels == label, p[:, label])["average_precision"] for label in classes
        },
        reliability=bands["reliability"],
        trade_offs=TradeOffs(bands["roc"], bands["cost"], bands["net_benefit"]) if "roc" in bands else None,
    )


def central_band(x: Float64Array, y: Float64Array, replicates: Float64Array) -> Band:
    """The central 95 % of ``[B, G]`` replicates around a curve; NaN replicates say nothing."""
    # A bin is empty in some replicates, never in all: every row is drawn in most of them.
    return Band(x, y, *central_interval(replicates))


def _count_at_least(descending: Float64Array, thresholds: Float64Array) -> npt.NDArray[np.int64]:
    """``[G]`` how many of the sorted probabilities are >= each threshold."""
    return np.searchsorted(-descending, -thresholds, side="right").astype(np.int64)


def precision_at_recall(hits: Float64Array, alarms: Float64Array) -> Float64Array:
    """``[B, G]`` precision at the highest threshold whose recall reaches each of :data:`RECALLS`.

    A step function and no interpolation, which would flatter the curve between thresholds (Davis & Goadrich
    2006). Its area over all recalls is the average precision.
    """
    precision = np.empty((len(hits), len(RECALLS)))
    for row, (tp, fp) in enumerate(zip(hits, alarms, strict=True)):
        # Multiplicities are whole numbers; rounding just above one must not require the next.
        reached = np.searchsorted(tp, RECALLS * tp[-1] - 1e-9, side="left")
        precision[row] = tp[reached] / (tp[reached] + fp[reached])
    return precision


def _tpr_at_fpr(tpr: Float64Array, fpr: Float64Array) -> Float64Array:
    """``[B, G]`` the ROC polygon at each of :data:`FALSE_ALARM_RATES`; its upper end where it is upright."""
    heights = np.empty((len(tpr), len(FALSE_ALARM_RATES)))
    for row, (up, right) in enumerate(zip(tpr, fpr, strict=True)):
        # 1e-12 lets a rate that equals a grid point up to rounding count as reached.
        left_end = np.searchsorted(right, FALSE_ALARM_RATES + 1e-12, side="right") - 1
        right_end = np.minimum(left_end + 1, len(right) - 1)
        # Where the ROC rises vertically there is nothing to interpolate.
        run = right[right_end] - right[left_end]
        part = np.divide(FALSE_ALARM_RATES - right[left_end], run, out=np.zeros_like(run), where=run > 0)
        heights[row] = up[left_end] + np.clip(part, 0.0, 1.0) * (up[right_end] - up[left_end])
    return heights
