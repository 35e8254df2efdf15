"""The K-class form of the logistic fit: one slope per supervised member, one vector per anomaly score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from contracts.errors import ModelError
from contracts.rows import LabelArray
from ensemble.logistic import Float64Array, minimise_bounded


@dataclass(frozen=True)
class SoftmaxFit:
    """``logits = sum_l slopes[l] * Z[l] + S @ directions + intercept``.

    Attributes:
        slopes: ``[L]`` one per logit block (a_m).
        directions: ``[J, K]`` one vector per anomaly score (B_j).
        intercept: ``[K]``, summing to 0.
    """

    slopes: Float64Array
    directions: Float64Array
    intercept: Float64Array


@dataclass(frozen=True)
class SlopePrior:
    """A Gaussian prior on the L slopes of :func:`fit_softmax`.

    Attributes:
        mean: ``[L]``.
        precision: ``[L, L]`` in units of rows, symmetric and positive semi-definite.
    """

    mean: Float64Array
    precision: Float64Array


def one_hot(labels: LabelArray, n_classes: int) -> Float64Array:
    """``[N, K]`` float64 rows with a single 1."""
    return np.eye(n_classes)[labels]


def smoothed_class_targets(labels: LabelArray, n_classes: int) -> Float64Array:
    """``[N, K]`` Platt's (1999) targets, class by class: (n_k + 1) / (n_k + 2) for the row's own class.

    The other classes share the rest. Every class has some mass, also one without a row, so that intercepts
    stay finite.
    """
    counts = np.bincount(labels, minlength=n_classes)
    own = ((counts + 1.0) / (counts + 2.0))[labels]
    targets = np.repeat(((1.0 - own) / (n_classes - 1))[:, None], n_classes, axis=1)
    targets[np.arange(len(labels)), labels] = own
    return targets


def fit_softmax(
    logit_blocks: Float64Array,
    anomaly: Float64Array,
    targets: Float64Array,
    *,
    ridge: float,
    slopes: SlopePrior | None = None,
    lower: float = -np.inf,
) -> SoftmaxFit:
    """Fit p = softmax(sum_l a_l z_l + sum_j s_j B_j + c) by penalised maximum likelihood.

    A supervised member has one slope for all its logits: it keeps their order, and needs one coefficient
    where a full matrix would need K * K. An anomaly score, which knows no classes, gets one coefficient per
    class.

    Args:
        logit_blocks: ``[L, N, K]`` standardised logits of L members; L may be 0.
        anomaly: ``[N, J]`` standardised anomaly scores; J may be 0.
        targets: ``[N, K]`` soft targets, rows summing to 1, every class with some mass.
        ridge: strength on slopes and directions, in units of rows.
        slopes: the prior of the slopes, in place of the ridge on them.
        lower: bound on the slopes; directions are free.

    Raises:
        ModelError: a class has no mass, or no optimum was reached.
    """
    n_blocks, (n_rows, n_classes), n_anomaly = len(logit_blocks), targets.shape, anomaly.shape[1]
    share = targets.mean(axis=0)
    if (share <= 0).any():
        empty = int(np.argmin(share))
        raise ModelError(f"softmax fit: class {empty} of {n_classes} has no rows. Give rows of every class.")
    flat_blocks = logit_blocks.reshape(n_blocks, n_rows * n_classes)  # an empty stack has no N of its own
    penalty = ridge / n_rows
    centre = np.zeros(n_blocks) if slopes is None else slopes.mean
    precision = penalty * np.eye(n_blocks) if slopes is None else slopes.precision / n_rows
    end_of_B = n_blocks + n_anomaly * n_classes

    def loss_and_gradient(parameters: Float64Array) -> tuple[float, Float64Array]:
        a = parameters[:n_blocks]
        B = parameters[n_blocks:end_of_B].reshape(n_anomaly, n_classes)
        logits = (a @ flat_blocks).reshape(n_rows, n_classes) + anomaly @ B + parameters[end_of_B:]
        # By hand and in place: scipy's logsumexp takes three times as long, and the fit of an ensemble spends
        # most of its time here.
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(axis=1, keepdims=True)
        # The targets of a row sum to 1, so its loss is log(total) - sum of target * logit.
        loss = (np.log(total).sum() - np.vdot(targets, logits)) / n_rows
        off = a - centre
        loss += 0.5 * (off @ precision @ off + penalty * (B * B).sum())
        p /= total
        residual = np.subtract(p, targets, out=p)
        residual /= n_rows
        gradient_a = flat_blocks @ residual.ravel() + precision @ off
        gradient_B = anomaly.T @ residual + penalty * B
        return float(loss), np.concatenate([gradient_a, gradient_B.ravel(), residual.sum(axis=0)])

    start = np.zeros(end_of_B + n_classes)
    start[:n_blocks] = np.maximum(centre, lower)
    # Softmax ignores a common constant; a start and gradients that sum to 0 keep c centred.
    start[end_of_B:] = np.log(share) - np.log(share).mean()
    bounds = np.full(len(start), -np.inf)
    bounds[:n_blocks] = lower
    best = minimise_bounded(loss_and_gradient, start, bounds)
    c = best[end_of_B:]
    return SoftmaxFit(best[:n_blocks], best[n_blocks:end_of_B].reshape(n_anomaly, n_classes), c - c.mean())
