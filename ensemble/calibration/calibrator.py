"""Calibrators: monotone maps from a combination's logit to a calibrated logit.

The number of positives decides how flexible the calibrator is: below 100 Platt's slope and intercept; below
500 beta calibration's three parameters; from 500 on a strictly increasing isotonic map
(:mod:`ensemble.calibration.isotonic`). Up to three parameters have a prior at the identity, so that one
positive, or none, gives a sensible map, and more of them move it continuously. All are fitted on cross-fitted
logits at the training rows' own class shares. All are strictly increasing, so that they preserve ranks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np

from contracts.rows import LabelArray
from ensemble.logistic import MIN_SLOPE, Float64Array, LogisticPrior, fit_logistic, smoothed_log_odds
from ensemble.softmax import SlopePrior, fit_softmax, smoothed_class_targets

INTERCEPT_PRECISION = 0.3
SLOPE_PRECISION = 20.0
"""Of the maps' parameters around those of the identity, in units of rows. The combination's logits are meant
to be log-odds already, and with few positives they are the better guess; some dozens outweigh it. Chosen on
the splits of ``docs/results/fusion.md``."""


class Calibrator(ABC):
    """A fitted map from logit to calibrated logit, ``[N]`` → ``[N]`` (``[N, K]`` for temperature)."""

    kind: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit(cls, logit: Float64Array, labels: LabelArray) -> Self:
        """Fit the map to cross-fitted logits and their labels."""

    @abstractmethod
    def __call__(self, logit: Float64Array) -> Float64Array:
        """Calibrated logits of the same shape; strictly increasing in the input."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values; floats round-trip exactly."""


@dataclass(frozen=True)
class PlattCalibrator(Calibrator):
    """``slope * logit + intercept`` (Platt 1999), slope > 0, both drawn towards the identity.

    Platt's smoothed targets, which serve the same end, draw every probability towards one half: with one
    positive no probability would exceed 2/3.
    """

    kind: ClassVar[str] = "platt"
    slope: float
    intercept: float

    @classmethod
    def fit(cls, logit: Float64Array, labels: LabelArray) -> Self:
        """Logistic regression on the logit; also without a positive row."""
        # Around the log-odds of the class shares, so that slope and intercept are nearly independent.
        base = smoothed_log_odds(labels)
        prior = LogisticPrior(np.ones(1), np.array([[SLOPE_PRECISION]]), base, INTERCEPT_PRECISION)
        # The bound keeps ranks, also where the scores rank in the wrong direction.
        fit = fit_logistic((logit - base)[:, None], labels, prior, lower=MIN_SLOPE)
        slope = float(fit.weights[0])
        return cls(slope, fit.intercept - slope * base)

    def __call__(self, logit: Float64Array) -> Float64Array:
        """Apply the line."""
        return self.slope * logit + self.intercept

    def state(self) -> dict[str, Any]:
        """Slope and intercept."""
        return asdict(self)


@dataclass(frozen=True)
class BetaCalibrator(Calibrator):
    """``a ln s - b ln(1 - s) + c`` with s = sigmoid(logit) and a, b > 0 (Kull et al. 2017, eq. 4).

    ``a`` is the slope for small s and ``b`` for large s. We differ from the paper in a prior towards the
    identity and a lower bound just above 0, which keep the map finite and strictly increasing.
    """

    kind: ClassVar[str] = "beta"
    a: float
    b: float
    c: float

    @classmethod
    def fit(cls, logit: Float64Array, labels: LabelArray) -> Self:
        """Logistic regression on (ln s, -ln(1 - s)) with bounded weights."""
        # ln s = -softplus(-logit) and -ln(1 - s) = softplus(logit); s itself would round to 1 from a logit of
        # about 37 on, and the logarithm of 1 - s to minus infinity.
        X = np.stack([-np.logaddexp(0.0, -logit), np.logaddexp(0.0, logit)], axis=1)
        prior = LogisticPrior(np.ones(2), SLOPE_PRECISION * np.eye(2), 0.0, INTERCEPT_PRECISION)
        fit = fit_logistic(X, labels, prior, lower=MIN_SLOPE)
        return cls(float(fit.weights[0]), float(fit.weights[1]), fit.intercept)

    def __call__(self, logit: Float64Array) -> Float64Array:
        """Apply the map; ln s and ln(1 - s) are computed from the logit, so nothing overflows."""
        return -self.a * np.logaddexp(0.0, -logit) + self.b * np.logaddexp(0.0, logit) + self.c

    def state(self) -> dict[str, Any]:
        """The three parameters."""
        return asdict(self)


@dataclass(frozen=True)
class TemperatureCalibrator(Calibrator):
    """``slope * logits + intercepts`` for K classes: one inverse temperature and K intercepts.

    Temperature scaling (Guo et al. 2017) with the class intercepts of bias-corrected temperature
    scaling (Alexandari et al. 2020), which a prior shift relies on. It preserves the order of rows within a
    class.
    """

    kind: ClassVar[str] = "temperature"
    slope: float
    intercepts: tuple[float, ...]

    @classmethod
    def fit(cls, logit: Float64Array, labels: LabelArray) -> Self:
        """Softmax regression; the true class's target is (n_k + 1) / (n_k + 2), the others share the rest."""
        n_rows, n_classes = logit.shape
        # Platt's smoothing per class: rare classes stay finite.
        targets = smoothed_class_targets(labels, n_classes)
        # The logits form one block, so a single slope (the inverse temperature) scales all K of them.
        no_anomaly = np.empty((n_rows, 0))
        prior = SlopePrior(np.ones(1), np.array([[SLOPE_PRECISION]]))
        fit = fit_softmax(logit[None], no_anomaly, targets, ridge=0.0, slopes=prior, lower=MIN_SLOPE)
        return cls(float(fit.slopes[0]), tuple(fit.intercept.tolist()))

    def __call__(self, logit: Float64Array) -> Float64Array:
        """Apply the map to ``[N, K]``."""
        return self.slope * logit + np.asarray(self.intercepts, dtype=np.float64)

    def state(self) -> dict[str, Any]:
        """Slope and intercepts."""
        return {"slope": self.slope, "intercepts": list(self.intercepts)}
