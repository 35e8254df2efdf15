"""Fit a threshold on out-of-fold logits, or explain why a rule cannot be applied.

Everything is computed in log-odds, where scores near 0 and 1 keep their distances. Candidates lie half-way
between neighbouring distinct scores, because a threshold *on* a score could flip with its last digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.special import logit as logit_of

from contracts.errors import DataError
from contracts.rows import LabelArray
from ensemble.logistic import Float64Array
from ensemble.threshold_rule import ThresholdRule
from evaluation.bootstrap import replicate_weights

N_REPLICATES = 500

POSITIVES_AGAINST_THEORY = 30
"""Independent minority rows at which the rows' own best threshold counts as much as the one that the
probabilities imply. On the splits of ``docs/results/fusion.md`` the latter has the lower HTER on test rows at
1 to 90 positives; the former bounds the damage where probabilities are off."""

# (recall [b, J], false-alarm rate [b, J]) -> cost [b, J], lower is better.
Cost = Callable[[Float64Array, Float64Array], Float64Array]


@dataclass(frozen=True)
class FittedThreshold:
    """A threshold on the probability at the deployment prior (``p >= threshold``), and how it was set."""

    threshold: float
    sentence: str


def fit_threshold(
    rule: ThresholdRule,
    logit: Float64Array,
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    *,
    minority_prior: float,
    seed: int,
) -> FittedThreshold:
    """Set the threshold by ``rule``.

    Args:
        rule: from :func:`ensemble.threshold_rule.parse_rule`.
        logit: ``[N]`` out-of-fold calibrated minority log-odds *after* the shift to the deployment prior.
        labels: ``[N]`` 1 for the minority, 0 for everything else.
        groups: ``[N]`` group index, for the bootstrap of the two smoothed rules, min_hter and max_f1.
        minority_prior: deployment share of the minority; F1 depends on it, so rows are weighted to it.
        seed: of the bootstrap.

    Raises:
        DataError: the rows do not support the rule; the message says what would.
    """
    if rule.kind == "cost":
        # Elkan 2001, eq. 2: for calibrated probabilities the optimal threshold follows from the costs alone.
        return FittedThreshold(
            rule.value,
            f"Threshold {rule.value:.4g} follows from the costs ({rule.text}: false alarm to miss).",
        )
    n_pos = int(labels.sum())
    n_neg = len(labels) - n_pos
    if n_pos == 0 and rule.kind != "false_alarm_budget":
        raise _cannot(
            rule, "there are no minority rows out of fold", "Add minority images or use cost:FP:FN."
        )
    if n_neg == 0:
        raise _cannot(
            rule, "there are no majority rows out of fold", "Add majority images or use cost:FP:FN."
        )
    # Candidates come from the scores of both classes, because a gap between two of them is where the
    # threshold is safest.
    distinct = np.unique(logit)
    if rule.kind == "recall_floor":
        at = _recall_floor(rule, np.sort(logit[labels == 1]), distinct)
    elif rule.kind == "false_alarm_budget":
        at = _false_alarm_budget(rule, np.sort(logit[labels == 0]), distinct)
    else:
        if len(distinct) == 1:
            raise _cannot(
                rule, f"all {len(labels)} scores are equal", "Train the members again or use cost:FP:FN."
            )
        at = _smoothed(rule, logit, labels, groups, minority_prior, seed)
    # Counted on the rows as they are, not on replicates: these are the figures that a user can check.
    flagged = logit >= at
    hits, alarms = int(flagged[labels == 1].sum()), int(flagged[labels == 0].sum())
    # Searched in log-odds, stored as a probability, which is what the graph compares.
    threshold = float(expit(at))
    return FittedThreshold(
        threshold,
        f"Threshold {threshold:.4g} by {rule.text}: out of fold it finds {hits} of {n_pos} minority rows "
        f"with {alarms} false alarms on {n_neg} others.{_of_few(rule, n_pos)}",
    )


def _of_few(rule: ThresholdRule, n_pos: int) -> str:
    """What a smoothed rule cannot promise on few minority rows, with a space before it."""
    if rule.kind not in {"min_hter", "max_f1"} or n_pos >= POSITIVES_AGAINST_THEORY:
        return ""
    return (
        f" With {n_pos} minority rows it follows mostly from the probabilities; how many of the minority it "
        "will find is not known."
    )


def _cannot(rule: ThresholdRule, why: str, what_to_do: str) -> DataError:
    """The error for a rule that the rows do not support."""
    return DataError(f"threshold rule '{rule.text}' cannot be set: {why}. {what_to_do}")


def _recall_floor(rule: ThresholdRule, positive: Float64Array, distinct: Float64Array) -> float:
    """The highest threshold that still finds the required share of the out-of-fold minority rows."""
    n_pos = len(positive)
    # Below this number a single miss already breaks the floor, so "recall >= R" would silently mean "find
    # every row". The 1e-9 undoes rounding: 1 / (1 - 0.9) is 10.000000000000002.
    needed = math.ceil(1.0 / (1.0 - rule.value) - 1e-9)
    if n_pos < needed:
        # Rounded down, so that the advice can be followed literally.
        reachable = math.floor(100 * (1.0 - 1.0 / n_pos)) / 100
        instead = f"ask for recall>={reachable:g} or use min_hter" if n_pos > 1 else "use cost:FP:FN"
        raise _cannot(
            rule,
            f"with {n_pos} minority rows one miss is already {1.0 / n_pos:.1%}; it needs at least {needed}",
            f"Add minority images, {instead}.",
        )
    # The same 1e-9: (1 - 0.9) * 10 is 0.9999999999999998 and must count as one miss.
    misses = math.floor((1.0 - rule.value) * n_pos + 1e-9)
    return _just_below(positive[misses], distinct)


def _false_alarm_budget(rule: ThresholdRule, negative: Float64Array, distinct: Float64Array) -> float:
    """The lowest threshold that flags at most the allowed share of the other out-of-fold rows."""
    n_neg = len(negative)
    # See _recall_floor for the 1e-9.
    alarms = math.floor(rule.value * n_neg + 1e-9)
    if alarms < 1:
        raise _cannot(
            rule,
            f"with {n_neg} majority rows one false alarm is already {1.0 / n_neg:.2%}",
            f"Add majority images or allow false_alarms<={math.ceil(1e4 / n_neg) / 1e4:g}.",
        )
    # Everything may be flagged; a threshold below all scores says so without an infinity in the file.
    if alarms >= n_neg:
        return float(distinct[0]) - 1.0
    first_unflagged = negative[n_neg - 1 - alarms]
    # The next score above the first row that must stay unflagged, whichever class it belongs to: ties with
    # that row cannot be flagged either.
    above = distinct[np.searchsorted(distinct, first_unflagged, side="right") :]
    return float(first_unflagged) + 1.0 if not len(above) else _just_below(float(above[0]), distinct)


def _smoothed(
    rule: ThresholdRule,
    logit: Float64Array,
    labels: LabelArray,
    groups: npt.NDArray[np.int64],
    minority_prior: float,
    seed: int,
) -> float:
    """Between the threshold that the probabilities imply and the one that is best on the rows.

    One minority row says next to nothing about where to cut, and three dozen little. Calibrated probabilities
    imply a threshold without counting errors on rows, so the weight moves from the one to the other with the
    number of independent minority rows.
    """
    cost: Cost
    if rule.kind == "min_hter":
        # The expected HTER of p is least where p equals the class share (Elkan 2001, for costs of 1 / share).
        implied, cost = float(logit_of(minority_prior)), _hter
    else:
        implied, cost = _implied_by_f1(logit, labels, minority_prior), _negative_f1(minority_prior)
    n = len(np.unique(groups[labels == 1]))
    found = _bagged_minimiser(logit, labels, groups, cost, seed)
    return (n * found + POSITIVES_AGAINST_THEORY * implied) / (n + POSITIVES_AGAINST_THEORY)


def _implied_by_f1(logit: Float64Array, labels: LabelArray, prior: float) -> float:
    """The threshold of the highest F1 that the probabilities themselves expect, without the rows' labels."""
    order = np.argsort(-logit)
    p, trained = expit(logit[order]), float(labels.mean())
    # The rows have the trained class shares; each counts as often as rows like it occur at the prior.
    weight = 1.0 / (p * trained / prior + (1.0 - p) * (1.0 - trained) / (1.0 - prior))
    hits, flagged = np.cumsum(weight * p), np.cumsum(weight)
    best = int(np.argmax(2.0 * hits / (flagged + hits[-1])))
    return _just_below(float(logit[order[best]]), np.unique(logit))


def _just_below(score: float, distinct: Float64Array) -> float:
    """Half-way to the next lower distinct score; one unit of log-odds below the lowest."""
    position = int(np.searchsorted(distinct, score, side="left"))
    return score - 1.0 if position == 0 else float((distinct[position - 1] + score) / 2.0)


def _hter(recall: Float64Array, false_alarm_rate: Float64Array) -> Float64Array:
    """(FNR + FPR) / 2."""
    return (1.0 - recall + false_alarm_rate) / 2.0


def _negative_f1(prior: float) -> Cost:
    """Minus F1 = 2 TP / (2 TP + FP + FN) for rows weighted to a minority share of ``prior``."""

    def cost(recall: Float64Array, false_alarm_rate: Float64Array) -> Float64Array:
        # The denominator is above 0 even if nothing is flagged, because the prior is.
        return -2.0 * prior * recall / (prior * recall + (1.0 - prior) * false_alarm_rate + prior)

    return cost


def _bagged_minimiser(
    logit: Float64Array, labels: LabelArray, groups: npt.NDArray[np.int64], cost: Cost, seed: int
) -> float:
    """The mean, over bootstrap replicates, of each replicate's best threshold (bagging, Breiman 1996).

    With three dozen positives, one or two rows decide the plain minimiser, and it jumps when a row is added.
    On unit Gaussians one to four units apart, with 36 positives, the mean of 500 replicates' minimisers
    varies a quarter to a third less, and its HTER in excess of the optimum is 16 to 54 % smaller (for the
    replicates'
    median: 5 to 31 %). Replicates are stratified by class and draw whole groups. If a range of thresholds is
    equally good, its middle is used.
    """
    distinct, position = np.unique(logit, return_inverse=True)
    candidates = (distinct[1:] + distinct[:-1]) / 2.0
    order = np.argsort(position, kind="stable")
    # Where each distinct value's rows end in sorted order: sums up to there lie below the candidate.
    end_of_value = np.searchsorted(position[order], np.arange(len(candidates)), side="right")
    is_positive = labels[order] == 1
    minimisers = []
    for block in replicate_weights(labels, groups, n_replicates=N_REPLICATES, seed=seed):
        weights = block[:, order]
        # One cumulative sum gives recall and false-alarm rate at every candidate, for a whole block of
        # replicates.
        missed = np.cumsum(weights * is_positive, axis=1)
        true_negatives = np.cumsum(weights * ~is_positive, axis=1)
        recall = 1.0 - missed[:, end_of_value - 1] / missed[:, -1:]
        false_alarm_rate = 1.0 - true_negatives[:, end_of_value - 1] / true_negatives[:, -1:]
        values = cost(recall, false_alarm_rate)
        # The tolerance joins candidates that are equal but for the order of summation.
        best = values <= values.min(axis=1, keepdims=True) + 1e-12
        first = candidates[best.argmax(axis=1)]
        last = candidates[best.shape[1] - 1 - best[:, ::-1].argmax(axis=1)]
        minimisers.append((first + last) / 2.0)
    return float(np.mean(np.concatenate(minimisers)))
