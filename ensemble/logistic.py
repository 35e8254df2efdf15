"""Ridge logistic regression with soft targets and bounded weights, used by stack and calibrators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit
from scipy.special import logit as logit_of
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from contracts.errors import ModelError

Float64Array = npt.NDArray[np.float64]

# A slope of at least this keeps a map strictly increasing, so that it preserves ranks.
MIN_SLOPE = 1e-3

# Largest projected gradient of the mean loss that still counts as an optimum.
_GRADIENT_TOLERANCE = 1e-5
# Nearly collinear members make a narrow valley in which L-BFGS can stall short of the optimum. A restart from
# there, with an empty memory of the curvature, continues.
_MOST_STARTS = 10


@dataclass(frozen=True)
class LogisticFit:
    """``logit = X @ weights + intercept (+ offset)``; ``weights`` is ``[M]``."""

    weights: Float64Array
    intercept: float


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
    raise ModelError(
        f"logistic fit: no optimum after {found.nit} steps ({found.message}). "
        "Look for a member with extreme scores and leave it out."
    )


def fit_logistic(
    X: Float64Array,
    targets: Float64Array,
    *,
    ridge: float,
    row_weights: Float64Array | None = None,
    offset: Float64Array | None = None,
    lower: float = -np.inf,
) -> LogisticFit:
    """Minimise sum_i w_i [softplus(f_i) - t_i f_i] + ridge/2 * |a|^2 with f = X a + b + offset.

    This is the objective of scikit-learn's ``LogisticRegression`` with ``C = 1 / ridge``, with soft targets,
    an offset and lower bounds on the weights in addition. The intercept is not penalised, so the mean of the
    fitted probabilities equals the mean target.

    Args:
        X: ``[N, M]`` inputs, on comparable scales because the ridge treats them alike; M may be 0.
        targets: ``[N]`` in 0…1, not all 0 and not all 1.
        ridge: strength >= 0, in units of rows.
        row_weights: ``[N]`` non-negative; None means 1 each.
        offset: ``[N]`` added to the logit with weight fixed at 1.
        lower: bound on every weight; 0 for a non-negative combination.

    Raises:
        ModelError: targets have no variation, or no optimum was reached.
    """
    n_rows, n_inputs = X.shape
    w = np.ones(n_rows) if row_weights is None else row_weights
    # The loss is a mean, so that the tolerances of the optimiser mean the same at any number of rows. The
    # ridge, given per sum, is divided likewise.
    w = w / w.sum()
    ridge_of_mean = ridge / (n_rows if row_weights is None else row_weights.sum())
    fixed = np.zeros(n_rows) if offset is None else offset
    mean_target = float(w @ targets)
    if not 0.0 < mean_target < 1.0:
        raise ModelError(
            f"logistic fit: the mean target is {mean_target:g}, so one class is missing. "
            "Give rows of both classes."
        )

    def loss_and_gradient(parameters: Float64Array) -> tuple[float, Float64Array]:
        a, b = parameters[:n_inputs], parameters[n_inputs]
        f = X @ a + b + fixed
        # softplus(f) - t f is the cross-entropy for soft targets; logaddexp does not overflow for large f.
        loss = w @ (np.logaddexp(0.0, f) - targets * f) + 0.5 * ridge_of_mean * (a @ a)
        residual = w * (expit(f) - targets)
        return float(loss), np.append(X.T @ residual + ridge_of_mean * a, residual.sum())

    # From weights of 0 and the intercept that fits the mean target: near the optimum of the intercept-only
    # model.
    # max(lower, 0): the start must be feasible where the weights are bounded away from 0.
    start = np.r_[np.full(n_inputs, max(lower, 0.0)), logit_of(mean_target) - w @ fixed]
    bounds = np.r_[np.full(n_inputs, lower), -np.inf]
    best = minimise_bounded(loss_and_gradient, start, bounds)
    return LogisticFit(best[:n_inputs], float(best[n_inputs]))
