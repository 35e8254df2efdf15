"""Fit the weights of a linear combination, for two classes and for K."""

from __future__ import annotations

import numpy as np

from ensemble.logistic import MIN_SLOPE, Float64Array, fit_logistic
from ensemble.softmax import fit_softmax, one_hot
from ensemble.stacking.combination import LinearCombination
from ensemble.stacking.training_scores import TrainingScores
from ensemble.stacking.transform import ColumnTransform

# Positives per coefficient below which the default ridge exceeds 1, the weight of one row.
COMFORTABLE_POSITIVES = 10.0


def default_ridge(training: TrainingScores) -> float:
    """A ridge of 1 at ten positives per coefficient, and inversely proportional to the number of positives.

    Inputs are standardised, so a ridge of r counts about as much as r well-placed rows. With many positives
    it has no effect; with three positives for five members it keeps the weights small and even.
    """
    # Blocks, not columns: a member with K logits has a single coefficient.
    return COMFORTABLE_POSITIVES * len(training.blocks) / max(1, training.n_positive)


def fit_stack(training: TrainingScores, ridge: float) -> LinearCombination:
    """Ridge logistic regression over all members with non-negative weights and unweighted rows.

    Weights are non-negative because a higher score means "more like the minority" by contract. A negative
    weight could only be noise, or two members cancelling each other.
    """
    return _fit(training, ridge, lower=0.0)


def fit_single(training: TrainingScores, member: str) -> LinearCombination:
    """One member's own logistic regression, as a combination in which all other weights are 0.

    The slope is kept above 0, so that a member that ranks in the wrong direction shows it in its AUROC.
    """
    own = training.only(member)
    fitted = _fit(own, default_ridge(own), lower=MIN_SLOPE)
    return _spread(fitted, training, member)


def fit_mean(training: TrainingScores) -> LinearCombination:
    """Plain mean of the standardised members, followed by a one-dimensional logistic regression.

    For K classes the logit blocks are averaged into one block and the anomaly scores into one column.
    """
    transform = ColumnTransform.fit(training)
    z = transform(training.scores)
    ridge = COMFORTABLE_POSITIVES / max(1, training.n_positive)
    if training.n_classes == 2:
        fit = fit_logistic(
            z.mean(axis=1, keepdims=True), training.labels.astype(np.float64), ridge=ridge, lower=MIN_SLOPE
        )
        # The slope of the mean is spread evenly over the columns, so the fusion has the same form as the
        # stack.
        weights = np.full((z.shape[1], 1), fit.weights[0] / z.shape[1])
        return LinearCombination(transform, weights, np.array([fit.intercept]))
    logit_blocks, anomaly_columns = _by_kind(training)
    blocks = z[:, logit_blocks].mean(axis=1)[None] if len(logit_blocks) else np.empty((0, 0, 0))
    anomaly = z[:, anomaly_columns].mean(axis=1, keepdims=True) if anomaly_columns else np.empty((len(z), 0))
    targets = one_hot(training.labels, training.n_classes)
    softmax = fit_softmax(blocks, anomaly, targets, ridge=ridge, lower=MIN_SLOPE)
    weights = np.zeros((z.shape[1], training.n_classes))
    for columns in logit_blocks:
        weights[columns] = np.eye(training.n_classes) * softmax.slopes[0] / len(logit_blocks)
    for column in anomaly_columns:
        weights[column] = softmax.directions[0] / len(anomaly_columns)
    return LinearCombination(transform, weights, softmax.intercept)


def _fit(training: TrainingScores, ridge: float, lower: float) -> LinearCombination:
    """One coefficient per member (K for an anomaly score if K > 2), each at least ``lower``."""
    transform = ColumnTransform.fit(training)
    z = transform(training.scores)
    if training.n_classes == 2:
        fit = fit_logistic(z, training.labels.astype(np.float64), ridge=ridge, lower=lower)
        return LinearCombination(transform, fit.weights[:, None], np.array([fit.intercept]))
    logit_blocks, anomaly_columns = _by_kind(training)
    blocks = np.stack([z[:, columns] for columns in logit_blocks]) if logit_blocks else np.empty((0, 0, 0))
    # Plain labels and unweighted rows: weighting would distort the probabilities, and class shares are dealt
    # with by the prior shift.
    targets = one_hot(training.labels, training.n_classes)
    softmax = fit_softmax(blocks, z[:, anomaly_columns], targets, ridge=ridge, lower=lower)
    weights = np.zeros((z.shape[1], training.n_classes))
    for slope, columns in zip(softmax.slopes, logit_blocks, strict=True):
        weights[columns] = np.eye(training.n_classes) * slope
    weights[anomaly_columns] = softmax.directions
    return LinearCombination(transform, weights, softmax.intercept)


def _by_kind(training: TrainingScores) -> tuple[list[list[int]], list[int]]:
    """Columns of each logit block, and the anomaly columns; for K > 2 classes."""
    logit_blocks = [list(block.columns) for block in training.blocks if block.is_logit_block]
    anomaly_columns = [block.columns[0] for block in training.blocks if not block.is_logit_block]
    return logit_blocks, anomaly_columns


def _spread(fitted: LinearCombination, training: TrainingScores, member: str) -> LinearCombination:
    """Place a one-member combination among all columns, so that every combination reads ``[N, M]``."""
    positions = [i for i, column in enumerate(training.columns) if column.member == member]
    weights: Float64Array = np.zeros((len(training.columns), fitted.weights.shape[1]))
    weights[positions] = fitted.weights
    return LinearCombination(ColumnTransform.fit(training), weights, fitted.intercept)
