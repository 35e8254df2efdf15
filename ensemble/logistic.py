"""Logistic regression with a Gaussian prior and bounded weights, used by stack and calibrators.

With one or two rows of a class the data alone decide nothing: the likelihood of separable rows has no
maximum, and that of a lone class no finite intercept. A proper prior on every parameter gives a sensible fit
from no minority row at all upwards, and is outweighed row by row as there are more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from contracts.errors import ModelError
from contracts.rows import LabelArray

Float64Array = npt.NDArray[np.float64]

# A slope of at least this keeps a map strictly increasing, so that it preserves ranks.
MIN_SLOPE = 1e-3

# Largest projected gradient of the mean loss that still counts as an optimum.
_GRADIENT_TOLERANCE = 1e-5
# Nearly collinear members make a narrow valley in which L-BFGS can stall short of the optimum. A restart from
# there, with an empty memory of the curvature, continues.
_MOST_STARTS = 10
_MOST_STEPS = 200
# Decrease that a step must reach, as a share of what the gradient promises (Armijo).
_SUFFICIENT = 1e-4


@dataclass(frozen=True)
class LogisticPrior:
    """A Gaussian prior on the parameters of :func:`fit_logistic`; precisions are in units of rows.

    Attributes:
        weights: ``[M]`` mean of the weights.
        precision: ``[M, M]`` of the weights, symmetric and positive semi-definite.
        intercept: mean of the intercept.
        intercept_precision: of the intercept; above 0 where a class may be missing.
    """

    weights: Float64Array
    precision: Float64Array
    intercept: float
    intercept_precision: float


@dataclass(frozen=True)
class LogisticFit:
    """``logit = X @ weights + intercept``; ``weights`` is ``[M]``."""

    weights: Float64Array
    intercept: float


def smoothed_log_odds(labels: LabelArray) -> float:
    """Log-odds of label 1's share, half a row added to each class: finite where one is missing.

    Args:
        labels: ``[N]`` 0 or 1.
    """
    n_positive = float(labels.sum())
    return float(np.log((n_positive + 0.5) / (len(labels) - n_positive + 0.5)))


@cache
def _blas() -> ThreadpoolController:
    """The loaded BLAS libraries; cached, because looking them up takes milliseconds."""
    return ThreadpoolController()


def minimise_bounded(
    loss_and_gradient: Callable[[Float64Array], tuple[float, Float64Array]],
    start: Float64Array,
    lower: Float64Array,
) -> Float64Array:
    """Minimise a smooth convex function under lower bounds by L-BFGS-B (Byrd et al. 1995).

    Args:
        loss_and_gradient: parameters ``[P]`` → loss (mean over rows) and gradient ``[P]``.
        start: ``[P]`` feasible start.
        lower: ``[P]`` lower bounds, ``-inf`` where free.

    Raises:
        ModelError: no optimum was reached (scores of extreme scale).
    """
    best = start
    # The matrices are tiny, so BLAS threads gain nothing. On a busy machine they wait for each other and make
    # the hundreds of fits of a cross-fit tens of times slower.
    with _blas().limit(limits=1, user_api="blas"):
        for _ in range(_MOST_STARTS):
            found = minimize(
                loss_and_gradient,
                best,
                jac=True,
                method="L-BFGS-B",
                # SciPy wants None rather than an infinity for a free side.
                bounds=[(None if bound == -np.inf else float(bound), None) for bound in lower],
                # Tolerances far below the gradient test that follows: the loss is a mean, so its last digits
                # still decide the weights of nearly collinear members.
                options={"maxiter": 2000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20},
            )
            best = np.asarray(found.x, dtype=np.float64)
            gradient = loss_and_gradient(best)[1]
            # At a bound, only a gradient that points back into the feasible side counts.
            projected = np.where(best <= lower, np.minimum(gradient, 0.0), gradient)
            # The line search may stop at float precision ("abnormal") although the optimum is reached.
            if np.isfinite(best).all() and np.abs(projected).max(initial=0.0) <= _GRADIENT_TOLERANCE:
                return best
    raise _no_optimum()


def fit_logistic(
    X: Float64Array, labels: LabelArray, prior: LogisticPrior, *, lower: float = -np.inf
) -> LogisticFit:
    """Minimise sum_i [softplus(f_i) - t_i f_i] - log prior with f = X a + b: the posterior's mode.

    Projected Newton steps (Bertsekas 1982): a dozen weights have a small Hessian, with which an ensemble's
    hundreds of fits take a tenth of the time that gradients alone would need.

    Args:
        X: ``[N, M]`` inputs on comparable scales; M may be 0.
        labels: ``[N]`` 0 or 1; one of them may be missing if the prior holds the intercept.
        prior: on the M weights and the intercept.
        lower: bound on every weight; 0 for a non-negative combination.

    Raises:
        ModelError: no optimum was reached.
    """
    n_rows, n_inputs = X.shape
    inputs = np.column_stack([X, np.ones(n_rows)])
    centre = np.r_[prior.weights, prior.intercept]
    precision = np.zeros((n_inputs + 1, n_inputs + 1))
    precision[:n_inputs, :n_inputs] = prior.precision
    precision[n_inputs, n_inputs] = prior.intercept_precision
    bounds = np.r_[np.full(n_inputs, lower), -np.inf]

    def loss_at(parameters: Float64Array) -> float:
        logit, off = inputs @ parameters, parameters - centre
        # logaddexp does not overflow for large logits.
        return float((np.logaddexp(0.0, logit) - labels * logit).sum() + 0.5 * off @ precision @ off)

    # The start must be feasible where the weights are bounded away from 0.
    best = np.maximum(centre, bounds)
    loss = loss_at(best)
    for _ in range(_MOST_STEPS):
        p = expit(inputs @ best)
        gradient = inputs.T @ (p - labels) + precision @ (best - centre)
        # A weight at its bound stays there while the gradient pushes it against it.
        free = ~((best <= bounds) & (gradient > 0))
        # Far below the tolerance, which judges the fit where float precision ends the search earlier.
        if np.abs(gradient[free]).max(initial=0.0) <= 1e-4 * _GRADIENT_TOLERANCE * n_rows:
            return LogisticFit(best[:n_inputs], float(best[n_inputs]))
        hessian = (inputs.T * (p * (1.0 - p))) @ inputs + precision
        # Where all rows are saturated and the prior is flat, the Hessian vanishes.
        hessian[np.diag_indices_from(hessian)] += 1e-9 * n_rows
        step = np.zeros_like(best)
        step[free] = -np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        moved = _shorten(loss_at, best, loss, gradient, step, bounds)
        if moved is None:
            break
        best, loss = moved
    if np.isfinite(best).all() and np.abs(gradient[free]).max(initial=0.0) <= _GRADIENT_TOLERANCE * n_rows:
        return LogisticFit(best[:n_inputs], float(best[n_inputs]))
    raise _no_optimum()


def _shorten(
    loss_at: Callable[[Float64Array], float],
    start: Float64Array,
    loss: float,
    gradient: Float64Array,
    step: Float64Array,
    bounds: Float64Array,
) -> tuple[Float64Array, float] | None:
    """The first of the step, its half, its quarter, … that lowers the loss enough, with the loss there.

    Every trial is projected onto the bounds. None if float precision leaves nothing to gain.
    """
    for halvings in range(40):
        trial = np.maximum(start + 0.5**halvings * step, bounds)
        loss_there = loss_at(trial)
        if loss_there < loss and loss_there <= loss + _SUFFICIENT * float(gradient @ (trial - start)):
            return trial, loss_there
    return None


def _no_optimum() -> ModelError:
    """The error of a fit that does not converge."""
    return ModelError(
        "logistic fit: no optimum was reached. Look for a member with extreme scores and leave it out."
    )
