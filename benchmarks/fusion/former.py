"""The gated ridge stack as it was before fusion learned to shrink to equal weights; here to be compared with.

It is kept as a copy, so that a change of the product's stack does not move what it is measured against. Two
classes only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from sklearn.metrics import average_precision_score

from ensemble.logistic import MIN_SLOPE, Float64Array, LogisticFit, LogisticPrior, fit_logistic
from ensemble.stacking.combination import LinearCombination
from ensemble.stacking.quality import log_loss
from ensemble.stacking.stacker import cross_fit
from ensemble.stacking.training_scores import TrainingScores
from ensemble.stacking.transform import ColumnTransform

_FACTORS = (100.0, 10.0, 1.0, 0.1)
_POSITIVES_PER_WEIGHT = 10.0

Method = Callable[[TrainingScores], LinearCombination]


def former_stack(training: TrainingScores) -> LinearCombination:
    """Non-negative weights that ridge draws to 0; its strength by cross-fitted log loss."""
    ridge = _POSITIVES_PER_WEIGHT * training.scores.shape[1] / max(1, training.n_positive)
    if _every_fold_can_be_left_out(training):
        losses = [
            log_loss(cross_fit(training, partial(_ridge, ridge=ridge * factor)), training.labels)
            for factor in _FACTORS
        ]
        ridge *= _FACTORS[int(np.argmin(losses))]
    return _ridge(training, ridge)


def former_single(training: TrainingScores, column: int) -> LinearCombination:
    """One column's own logistic regression."""
    transform = ColumnTransform.fit(training)
    z = transform(training.scores)[:, [column]]
    ridge = _POSITIVES_PER_WEIGHT / max(1, training.n_positive)
    fit = _towards_zero(z, training, ridge, MIN_SLOPE)
    weights = np.zeros((len(training.columns), 1))
    weights[column] = fit.weights
    return LinearCombination(transform, weights, np.array([fit.intercept]))


def former_gated(training: TrainingScores) -> Method:
    """The stack, unless the best member's log loss or average precision is better out of fold."""
    singles: list[Method] = [partial(former_single, column=column) for column in range(len(training.columns))]
    alone = [_out_of_fold(training, single) for single in singles]
    losses = [log_loss(logits, training.labels) for logits in alone]
    best = int(np.argmin(losses))
    stack = _out_of_fold(training, former_stack)
    precision = [average_precision_score(training.labels, logits) for logits in (stack, alone[best])]
    loss_ok = log_loss(stack, training.labels) <= losses[best] + 1e-9
    return former_stack if loss_ok and precision[0] >= precision[1] - 1e-9 else singles[best]


def _out_of_fold(training: TrainingScores, method: Method) -> Float64Array:
    """Cross-fitted logits; those of the rows fitted on where too few folds hold the minority."""
    if _every_fold_can_be_left_out(training):
        return cross_fit(training, method)
    return method(training).logits(training.scores)


def _ridge(training: TrainingScores, ridge: float) -> LinearCombination:
    transform = ColumnTransform.fit(training)
    fit = _towards_zero(transform(training.scores), training, ridge, 0.0)
    return LinearCombination(transform, fit.weights[:, None], np.array([fit.intercept]))


def _towards_zero(z: Float64Array, training: TrainingScores, ridge: float, lower: float) -> LogisticFit:
    """Ridge regression as it was: weights drawn to 0, the intercept free."""
    n = z.shape[1]
    prior = LogisticPrior(np.zeros(n), ridge * np.eye(n), intercept=0.0, intercept_precision=0.0)
    return fit_logistic(z, training.labels, prior, lower=lower)


def _every_fold_can_be_left_out(training: TrainingScores) -> bool:
    """Whether each class is in at least two folds."""
    return all(len(np.unique(training.folds[training.labels == k])) > 1 for k in range(training.n_classes))
