"""Fit the weights of a linear combination, for two classes and for K.

**The prior.** With few labels the weights are what was usual on other data sets, and every label moves them
towards what the rows say. A member's score, in standard deviations of the majority's, becomes log-odds by a
slope and an intercept of its own; the members' log-odds are then combined by non-negative weights that shrink
to *equal* ones, not to zero. A ridge towards zero throws away all members but one on few labels; the plain
mean of them seldom loses. The figures below come from the splits of ``docs/results/fusion.md``, whose test
rows say which slopes would have been best; halving or doubling a precision changes nothing that can be
measured there, nor does a strength chosen by cross-fitted log loss gain anything over a fixed one.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from scipy.stats import rankdata

from ensemble.conformal import fused_score
from ensemble.logistic import MIN_SLOPE, Float64Array, LogisticPrior, fit_logistic, smoothed_log_odds
from ensemble.softmax import SlopePrior, fit_softmax, smoothed_class_targets
from ensemble.stacking.combination import LinearCombination
from ensemble.stacking.training_scores import MemberBlock, TrainingScores
from ensemble.stacking.transform import ColumnTransform

CUT = 1.3
"""Where a member's log-odds are those of the class shares: this many of the majority's standard deviations
above the majority's mean."""

SLOPE, SLOPE_PRECISION = 1.6, 1.0
"""Log-odds for each standard deviation of one member."""

# Precision of a slope that no row may move.
_KNOWN = 1e6

TOTAL, TOTAL_PRECISION = 1.9, 2.0
"""Sum of the weights on the members' log-odds: above 1, because members know different things."""

DEVIATION_PRECISION = 10.0
"""On the deviations of the weights from their mean, in units of rows."""

INTERCEPT_PRECISION = 0.3
"""Of an intercept around the log-odds of the class shares."""

DRAWN_BACK = 0.25
"""Share of the guarded stack that is its one-class members' alone. A half gains no more on kinds never seen
and costs more than twice as much on kinds seen."""

SAME_RANKS = 0.98
"""Members whose out-of-fold ranks correlate more (Spearman) count as one: three linear heads on the same
features would otherwise outvote the rest."""

# Positives per coefficient below which the ridge of K classes exceeds 1, the weight of one row.
_COMFORTABLE_POSITIVES = 10.0


def fit_stack(training: TrainingScores) -> LinearCombination:
    """Combine all members' log-odds by non-negative weights drawn towards equal ones.

    Weights are non-negative because a higher score means "more like the minority" by contract. A negative
    weight could only be noise, or two members cancelling each other.
    """
    return _stack_of(training, list(_singles(training).values()))


def fit_guarded(training: TrainingScores) -> LinearCombination:
    """The stack drawn back to its one-class members: a quarter of it is the stack of these alone.

    No kind of the minority can surprise a one-class member, which has seen none. Without such members, this
    is the stack.
    """
    stack = fit_stack(training)
    guards = {column.member for column in training.columns if column.kind == "oneclass"}
    if not guards:
        return stack
    alone = _stack_of(training, [s for name, s in _singles(training).items() if name in guards])
    weights = (1.0 - DRAWN_BACK) * stack.weights + DRAWN_BACK * alone.weights
    intercept = (1.0 - DRAWN_BACK) * stack.intercept + DRAWN_BACK * alone.intercept
    return LinearCombination(stack.transform, weights, intercept)


def _stack_of(training: TrainingScores, singles: list[LinearCombination]) -> LinearCombination:
    """The stack of some members, each given by its own logistic regression."""
    # Each member's log-odds relative to the class shares; [N, M], or [N, M, K].
    base = 0.0 if training.n_classes > 2 else smoothed_log_odds(training.labels)
    by_member = np.stack([single.logits(training.scores) - base for single in singles], axis=1)
    families = alike(np.stack([fused_score(by_member[:, m]) for m in range(len(singles))], axis=1))
    merged = np.stack([by_member[:, family].mean(axis=1) for family in families], axis=1)
    n = len(families)
    centre = np.full(n, TOTAL / n)
    on_mean = np.full((n, n), 1.0 / n)
    # The mean of the weights has a precision of its own; what is left of the space is their deviations.
    precision = DEVIATION_PRECISION * (np.eye(n) - on_mean) + n * TOTAL_PRECISION * on_mean
    if training.n_classes == 2:
        prior = LogisticPrior(centre, precision, base, INTERCEPT_PRECISION)
        fit = fit_logistic(merged, training.labels, prior, lower=0.0)
        of_family, intercept = fit.weights, np.array([fit.intercept])
    else:
        softmax = fit_softmax(
            np.moveaxis(merged, 1, 0),
            np.empty((len(merged), 0)),
            smoothed_class_targets(training.labels, training.n_classes),
            ridge=0.0,
            slopes=SlopePrior(centre, precision),
            lower=0.0,
        )
        of_family, intercept = softmax.slopes, softmax.intercept
    of_member = np.zeros(len(singles))
    for weight, family in zip(of_family, families, strict=True):
        of_member[family] = weight / len(family)
    # Linear in linear: the sum has the form of every combination, one weight a column.
    weights = sum(w * single.weights for w, single in zip(of_member, singles, strict=True))
    offset = sum(w * (single.intercept - base) for w, single in zip(of_member, singles, strict=True))
    return LinearCombination(singles[0].transform, np.asarray(weights), np.asarray(intercept + offset))


def alike(scores: Float64Array) -> list[list[int]]:
    """Group members whose ranks agree beyond :data:`SAME_RANKS`, also through a third one.

    Args:
        scores: ``[N, M]`` one number a row and member, higher = more like the minority.

    Returns:
        Groups of positions, in order of their first member.
    """
    ranks = rankdata(scores, axis=0)
    ranks -= ranks.mean(axis=0)
    length = np.sqrt((ranks**2).sum(axis=0))
    # A constant column agrees with none.
    agree = (ranks.T @ ranks) > SAME_RANKS * np.outer(length, length)
    group = np.arange(scores.shape[1])
    for i, j in zip(*np.nonzero(agree), strict=True):
        group[group == max(group[i], group[j])] = min(group[i], group[j])
    return [np.flatnonzero(group == g).tolist() for g in np.unique(group)]


def fit_single(training: TrainingScores, member: str) -> LinearCombination:
    """One member's own logistic regression, as a combination in which all other weights are 0.

    The slope is kept above 0, so that a member that ranks in the wrong direction shows it in its AUROC.
    """
    return _singles(training)[member]


# Greedy selection, the best member, the stack and every member's own row need the same fits on the same rows.
_FITTED: WeakKeyDictionary[TrainingScores, dict[str, LinearCombination]] = WeakKeyDictionary()


def _singles(training: TrainingScores) -> dict[str, LinearCombination]:
    """Member → its own logistic regression, in column order; fitted once for the same rows."""
    if training not in _FITTED:
        transform = ColumnTransform.fit(training)
        z = transform(training.scores)
        _FITTED[training] = {
            block.member: _fit_block(training, transform, z, block) for block in training.blocks
        }
    return _FITTED[training]


def _fit_block(
    training: TrainingScores, transform: ColumnTransform, z: Float64Array, block: MemberBlock
) -> LinearCombination:
    """:func:`fit_single` of a block, from standardised scores ``[N, M]`` that all blocks share."""
    columns = list(block.columns)
    weights: Float64Array = np.zeros((z.shape[1], 1 if training.n_classes == 2 else training.n_classes))
    if training.n_classes == 2:
        # What stands in for the only minority row's score says nothing of the member: the prior speaks alone.
        precision = _KNOWN if block.member in training.unseen_minority else SLOPE_PRECISION
        slope, intercept = _fit_line(z[:, columns[0]], training, SLOPE, precision)
        weights[columns, 0] = slope
        return LinearCombination(transform, weights, np.array([intercept]))
    anomaly = np.empty((len(z), 0)) if block.is_logit_block else z[:, columns]
    softmax = fit_softmax(
        z[:, columns][None] if block.is_logit_block else np.empty((0, 0, 0)),
        anomaly,
        smoothed_class_targets(training.labels, training.n_classes),
        ridge=_COMFORTABLE_POSITIVES / max(1, training.n_positive),
        lower=MIN_SLOPE,
    )
    weights[columns] = (
        np.eye(training.n_classes) * softmax.slopes[0] if block.is_logit_block else softmax.directions
    )
    return LinearCombination(transform, weights, softmax.intercept)


def fit_mean(training: TrainingScores) -> LinearCombination:
    """Plain mean of the standardised members, followed by a one-dimensional logistic regression.

    For K classes the logit blocks are averaged into one block and the anomaly scores into one column.
    """
    transform = ColumnTransform.fit(training)
    z = transform(training.scores)
    if training.n_classes == 2:
        slope, intercept = _fit_line(z.mean(axis=1), training, SLOPE * TOTAL, SLOPE_PRECISION)
        # The slope of the mean is spread evenly over the columns, so the fusion has the same form as the
        # stack.
        weights = np.full((z.shape[1], 1), slope / z.shape[1])
        return LinearCombination(transform, weights, np.array([intercept]))
    logit_blocks = [list(block.columns) for block in training.blocks if block.is_logit_block]
    anomaly_columns = [block.columns[0] for block in training.blocks if not block.is_logit_block]
    blocks = z[:, logit_blocks].mean(axis=1)[None] if logit_blocks else np.empty((0, 0, 0))
    anomaly = z[:, anomaly_columns].mean(axis=1, keepdims=True) if anomaly_columns else np.empty((len(z), 0))
    softmax = fit_softmax(
        blocks,
        anomaly,
        smoothed_class_targets(training.labels, training.n_classes),
        ridge=_COMFORTABLE_POSITIVES / max(1, training.n_positive),
        lower=MIN_SLOPE,
    )
    weights = np.zeros((z.shape[1], training.n_classes))
    for columns in logit_blocks:
        weights[columns] = np.eye(training.n_classes) * softmax.slopes[0] / len(logit_blocks)
    for column in anomaly_columns:
        weights[column] = softmax.directions[0] / len(anomaly_columns)
    return LinearCombination(transform, weights, softmax.intercept)


def _fit_line(
    x: Float64Array, training: TrainingScores, slope: float, slope_precision: float
) -> tuple[float, float]:
    """Slope and intercept of the log-odds on one input, by a prior in the majority's standard deviations.

    Args:
        x: ``[N]`` the input.
        training: labels of two classes.
        slope: the prior's, for each standard deviation of the majority's rows.
        slope_precision: of the prior.

    Returns:
        Slope and intercept in units of ``x``.
    """
    majority = x[training.labels == 0]
    mean, std = majority.mean(), majority.std()
    # An input that is constant among the majority has no unit of its own.
    std = std if std > 1e-6 * max(1.0, abs(mean)) else 1.0
    prior = LogisticPrior(
        np.array([slope]),
        np.array([[slope_precision]]),
        smoothed_log_odds(training.labels),
        INTERCEPT_PRECISION,
    )
    fit = fit_logistic(((x - mean) / std - CUT)[:, None], training.labels, prior, lower=MIN_SLOPE)
    in_units = float(fit.weights[0]) / std
    return in_units, fit.intercept - in_units * (mean + CUT * std)
