"""Calibrators: monotone maps from a combination's logit to a calibrated logit.

The number of positives decides how flexible the calibrator is: below 20 only an intercept; below 100 Platt's
slope and intercept; below 500 beta calibration's three parameters; from 500 on a strictly increasing isotonic
map (:mod:`ensemble.calibration.isotonic`). All are fitted on cross-fitted logits at the training rows' own
class shares. All are strictly increasing, so that they preserve ranks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np

from contracts.rows import LabelArray
from ensemble.logistic import MIN_SLOPE, Float64Array, fit_logistic
from ensemble.softmax import fit_softmax


def smoothed_targets(labels: LabelArray) -> Float64Array:
    """Platt's (1999) targets: (n+ + 1) / (n+ + 2) for positives, 1 / (n- + 2) for negatives.

    They are posterior means under a uniform prior, and keep every fit finite if scores separate the classes
    perfectly.

    Args:
        labels: ``[N]`` 0 or 1.
    """
    n_pos = int(labels.sum())
    n_neg = len(labels) - n_pos
    # With hard targets 0 and 1 a separable table has no finite optimum: the slope would grow without bound.
    return np.where(labels == 1, (n_pos + 1.0) / (n_pos + 2.0), 1.0 / (n_neg + 2.0))


class Calibrator(ABC):
    """A fitted map from logit to calibrated logit, ``[N]`` → ``[N]`` (``[N, K]`` for temperature)."""

    kind: ClassVar[str]

    @classmethod
    @abstractmethod
    def fit(cls, logit: Float64Array, labels: LabelArray) -> Self:
        """Fit the map to cross-fitted logits and their labels; both classes are present."""

    @abstractmethod
    def __call__(self, logit: Float64Array) -> Float64Array:
        """Calibrated logits of the same shape; strictly increasing in the input."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values; floats round-trip exactly."""


@dataclass(frozen=True)
class InterceptCalibrator(Calibrator):
    """``logit + intercept``: corrects only the mean probability."""

    kind: ClassVar[str] = "intercept"
    intercept: float

    @classmethod
    def fit(cls, logit: Float64Array, labels: LabelArray) -> Self:
        """Choose the intercept at which the mean probability equals the share of positives."""
        # The logit enters as an offset, i.e. with a slope fixed at 1, so the intercept is the only free
        # parameter. No ridge: the intercept is never penalised, and there is nothing else to shrink. Hard
        # labels suffice, because an intercept stays finite as long as both classes are present.
        no_inputs = np.empty((len(logit), 0))
        return cls(fit_logistic(no_inputs, labels.astype(np.float64), ridge=0.0, offset=logit).intercept)

    def __call__(self, logit: Float64Array) -> Float64Array:
        """Add the intercept."""
        return logit + self.intercept

    def state(self) -> dict[str, Any]:
        """The intercept."""
        return asdict(self)


@dataclass(frozen=True)
class PlattCalibrator(Calibrator):
    """``slope * logit + intercept`` (Platt 1999), slope > 0."""

    kind: ClassVar[str] = "platt"
    slope: float
    intercept: float

    @classmethod
    def fit(cls, logit: Float64Array, labels: LabelArray) -> Self:
        """Logistic regression on the logit with Platt's smoothed targets."""
        # The bound, not a ridge, keeps the slope positive: a ridge would shrink it and so under-confidently
        # flatten every probability.
        fit = fit_logistic(logit[:, None], smoothed_targets(labels), ridge=0.0, lower=MIN_SLOPE)
        return cls(float(fit.weights[0]), fit.intercept)

    def __call__(self, logit: Float64Array) -> Float64Array:
        """Apply the line."""
        return self.slope * logit + self.intercept

    def state(self) -> dict[str, Any]:
        """Slope and intercept."""
        return asdict(self)


@dataclass(frozen=True)
class BetaCalibrator(Calibrator):
    """``a ln s - b ln(1 - s) + c`` with s = sigmoid(logit) and a, b > 0 (Kull et al. 2017, eq. 4).

    ``a`` is the slope for small s and ``b`` for large s. We differ from the paper in using Platt's targets
    and a lower bound just above 0, which keep the map finite and strictly increasing.
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
        fit = fit_logistic(X, smoothed_targets(labels), ridge=0.0, lower=MIN_SLOPE)
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
        counts = np.bincount(labels, minlength=n_classes)
        # Platt's smoothing per class, for the same reason as with two classes: rare classes stay finite.
        own = ((counts + 1.0) / (counts + 2.0))[labels]
        targets = np.repeat(((1.0 - own) / (n_classes - 1))[:, None], n_classes, axis=1)
        targets[np.arange(n_rows), labels] = own
        # The logits form one block, so a single slope (the inverse temperature) scales all K of them.
        no_anomaly = np.empty((n_rows, 0))
        fit = fit_softmax(logit[None], no_anomaly, targets, ridge=0.0, lower=MIN_SLOPE)
        return cls(float(fit.slopes[0]), tuple(fit.intercept.tolist()))

    def __call__(self, logit: Float64Array) -> Float64Array:
        """Apply the map to ``[N, K]``."""
        return self.slope * logit + np.asarray(self.intercepts, dtype=np.float64)

    def state(self) -> dict[str, Any]:
        """Slope and intercepts."""
        return {"slope": self.slope, "intercepts": list(self.intercepts)}
