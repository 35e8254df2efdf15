"""The prior shift: from the class shares that a calibrator was fitted on to those of deployment.

If only the class shares change, p'(k | x) ∝ p(k | x) * pi'_k / pi_k (Saerens et al. 2002, eq. 2.4). For two
classes that is a constant added to the log-odds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit, softmax
from scipy.special import logit as logit_of

from contracts.errors import UsageError
from ensemble.logistic import Float64Array

# The minority share for two classes; K shares, minority last, for more.
Prior = float | tuple[float, ...]


def check_prior(prior: float | Sequence[float] | Float64Array, n_classes: int) -> Prior:
    """Return the prior as a float (two classes) or a tuple of K floats.

    Args:
        prior: the minority share, or K shares that sum to 1.
        n_classes: K.

    Raises:
        UsageError: a share is not strictly between 0 and 1, their number is wrong, or they do not sum to 1.
    """
    shares = np.atleast_1d(np.asarray(prior, dtype=np.float64))
    expected = 1 if n_classes == 2 else n_classes
    if shares.shape != (expected,):
        form = "one number, the minority's share" if n_classes == 2 else f"{n_classes} shares, minority last"
        raise UsageError(f"prior: {shares.size} numbers for {n_classes} classes. Give {form}.")
    for share in shares.tolist():
        if not 0.0 < share < 1.0:
            raise UsageError(
                f"prior {share:g}: a class share must be strictly between 0 and 1. "
                "Give the share that you expect where the model will be used, for example 0.05."
            )
    if n_classes == 2:
        return float(shares[0])
    # Loose enough for shares typed with six decimals, tight enough to catch a forgotten class.
    if abs(float(shares.sum()) - 1.0) > 1e-6:
        raise UsageError(f"prior: the {n_classes} shares sum to {shares.sum():g}. Give shares that sum to 1.")
    return tuple(shares.tolist())


def shift_logit(logit: Float64Array, trained: Prior, deployment: Prior) -> Float64Array:
    """Move calibrated logits from the trained prior to the deployment prior.

    Args:
        logit: ``[N]`` minority log-odds, or ``[N, K]`` logits.
        trained: class shares of the rows that the calibrator was fitted on.
        deployment: class shares where the model is used; both checked by :func:`check_prior`.

    Returns:
        Logits of the same shape.
    """
    # For K classes the normalising constant of p' cancels in the softmax that follows.
    log_ratio = _log_odds(deployment) - _log_odds(trained)
    return logit + log_ratio


def _log_odds(prior: Prior) -> Float64Array:
    """Log-odds of the minority's share; log shares for K classes (equal up to a constant)."""
    return np.asarray(logit_of(prior) if isinstance(prior, float) else np.log(prior), dtype=np.float64)


def probability(logit: Float64Array) -> Float64Array:
    """``[N]`` log-odds → ``[N]`` minority probability; ``[N, K]`` logits → ``[N, K]`` probabilities."""
    return np.asarray(expit(logit) if logit.ndim == 1 else softmax(logit, axis=1), dtype=np.float64)
