"""A fitted ensemble as a torch module, which becomes the last part of the ONNX graph.

It repeats :meth:`ensemble.fitted.FittedEnsemble.predict` in float32 with operations that every ONNX runtime
has. Two rules keep rounding errors at float32's own: large constants are subtracted before anything is
scaled, and piecewise maps are sums of non-negative parts, never of hinges that cancel.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from contracts.errors import ModelError
from ensemble.calibration.calibrator import (
    BetaCalibrator,
    Calibrator,
    PlattCalibrator,
    TemperatureCalibrator,
)
from ensemble.calibration.isotonic import IsotonicCalibrator
from ensemble.fitted import FittedEnsemble
from ensemble.logistic import Float64Array
from ensemble.stacking.transform import ColumnTransform


class EnsembleModule(nn.Module):
    """``forward(scores [N, M], prior, threshold) -> (probability [N] or [N, K], decision [N])``.

    ``prior`` and ``threshold`` are ``[]`` for two classes and ``[K]`` otherwise. All inputs are
    float32, the decision int64. Traceable with a dynamic N.

    Args:
        fitted: the ensemble to repeat; the caller passes its default prior and threshold.
    """

    weights: Tensor
    intercept: Tensor
    trained_log_prior: Tensor

    def __init__(self, fitted: FittedEnsemble) -> None:
        super().__init__()
        self.n_classes = fitted.n_classes
        self.transform = _Transform(fitted.combination.transform)
        calibrator, trained_prior, _ = fitted.calibration
        self.calibrator = _calibrator_module(calibrator)
        self.register_buffer("weights", _float32(fitted.combination.weights))
        self.register_buffer("intercept", _float32(fitted.combination.intercept))
        trained = np.asarray(trained_prior, dtype=np.float64)
        # Log-odds for two classes, log shares for K: what the forward pass subtracts. It is computed in
        # float64 here, and only the result is rounded.
        log_prior = np.log(trained) - (np.log1p(-trained) if self.n_classes == 2 else 0.0)
        self.register_buffer("trained_log_prior", _float32(log_prior))

    def forward(self, scores: Tensor, prior: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and decisions; see the class."""
        logits = self.transform(scores) @ self.weights + self.intercept
        if self.n_classes == 2:
            calibrated = self.calibrator(logits.squeeze(1))
            # log1p keeps the digits of a rare prior that 1 - prior in float32 would lose.
            shift = torch.log(prior) - torch.log1p(-prior) - self.trained_log_prior
            probability = torch.sigmoid(calibrated + shift)
            return probability, (probability >= threshold).to(torch.int64)
        calibrated = self.calibrator(logits)
        probability = torch.softmax(calibrated + (torch.log(prior) - self.trained_log_prior), dim=1)
        return probability, (probability / threshold).argmax(dim=1)


class _Transform(nn.Module):
    """:class:`ensemble.stacking.transform.ColumnTransform`; logarithms are taken of ratios near 1."""

    is_log: Tensor
    floor: Tensor
    eps: Tensor
    log_scale: Tensor
    mean: Tensor
    mean_rest: Tensor
    inverse_std: Tensor

    def __init__(self, transform: ColumnTransform) -> None:
        super().__init__()
        # log(x + eps) - mean = log((x + eps) / exp(mean)): the ratio keeps the digits that the difference of
        # two large logarithms would lose.
        log_scale = np.where(transform.is_log, np.exp(-np.where(transform.is_log, transform.mean, 0.0)), 1.0)
        mean = np.where(transform.is_log, 0.0, transform.mean)
        self.register_buffer("is_log", torch.from_numpy(transform.is_log))
        self.register_buffer("floor", _float32(transform.floor))
        self.register_buffer("eps", _float32(transform.eps))
        self.register_buffer("log_scale", _float32(log_scale))
        self.register_buffer("mean", _float32(mean))
        # The part of the mean that float32 cannot hold; it is subtracted second.
        self.register_buffer("mean_rest", _float32(mean - mean.astype(np.float32).astype(np.float64)))
        self.register_buffer("inverse_std", _float32(1.0 / transform.std))

    def forward(self, scores: Tensor) -> Tensor:
        """``[N, M]`` → ``[N, M]``."""
        # Clamped before the logarithm: torch.where evaluates both branches, and a NaN of a logit column in
        # the unused one would be legal but noisy in other runtimes.
        above_floor = torch.clamp(scores - self.floor, min=0.0) + self.eps
        logarithm = torch.log(above_floor * self.log_scale)
        # Subtracted in two steps; adding the two constants first would round the rest away.
        linear = (scores - self.mean) - self.mean_rest
        return torch.where(self.is_log, logarithm, linear) * self.inverse_std


class _Affine(nn.Module):
    """Platt and temperature: ``slope * logit + intercept``."""

    slope: Tensor
    intercept: Tensor

    def __init__(self, slope: float, intercept: float | tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("slope", _float32(np.asarray(slope)))
        self.register_buffer("intercept", _float32(np.asarray(intercept)))

    def forward(self, logit: Tensor) -> Tensor:
        """Apply the line."""
        return self.slope * logit + self.intercept


class _Beta(nn.Module):
    """:class:`ensemble.calibration.calibrator.BetaCalibrator`."""

    a: Tensor
    b: Tensor
    c: Tensor

    def __init__(self, beta: BetaCalibrator) -> None:
        super().__init__()
        for name in ("a", "b", "c"):
            self.register_buffer(name, _float32(np.asarray(getattr(beta, name))))

    def forward(self, logit: Tensor) -> Tensor:
        """``a ln s - b ln(1 - s) + c`` by softplus."""
        return self.b * softplus(logit) - self.a * softplus(-logit) + self.c


class _Isotonic(nn.Module):
    """:class:`ensemble.calibration.isotonic.IsotonicCalibrator` as a sum over segments.

    value = values[0] + tail * min(x - first, 0) + tail * max(x - last, 0)
            + sum_s slope_s * clamp(x - knot_s, 0, width_s)
    """

    first: Tensor
    last: Tensor
    start: Tensor
    tail_slope: Tensor
    knots: Tensor
    widths: Tensor
    slopes: Tensor

    def __init__(self, isotonic: IsotonicCalibrator) -> None:
        super().__init__()
        knots, values = np.asarray(isotonic.knots), np.asarray(isotonic.values)
        widths = np.diff(knots)
        self.register_buffer("first", _float32(knots[0]))
        self.register_buffer("last", _float32(knots[-1]))
        self.register_buffer("start", _float32(values[0]))
        self.register_buffer("tail_slope", _float32(np.asarray(isotonic.tail_slope)))
        self.register_buffer("knots", _float32(knots[:-1]))
        self.register_buffer("widths", _float32(widths))
        self.register_buffer("slopes", _float32(np.diff(values) / widths))

    def forward(self, logit: Tensor) -> Tensor:
        """``[N]`` → ``[N]``."""
        below = torch.clamp(logit - self.first, max=0.0)
        above = torch.clamp(logit - self.last, min=0.0)
        # A sum over clamped segments needs no search for the segment (no Gather, no loop), and all of its
        # terms are non-negative, so nothing cancels.
        beyond_knot = torch.clamp(logit.unsqueeze(1) - self.knots, min=0.0)
        climbed = (torch.minimum(beyond_knot, self.widths) * self.slopes).sum(dim=1)
        return self.start + climbed + self.tail_slope * (below + above)


def _calibrator_module(calibrator: Calibrator) -> nn.Module:
    """The twin of a fitted calibrator.

    Raises:
        ModelError: the calibrator has no twin yet.
    """
    match calibrator:
        case PlattCalibrator(slope=slope, intercept=intercept):
            return _Affine(slope, intercept)
        case TemperatureCalibrator(slope=slope, intercepts=intercepts):
            return _Affine(slope, intercepts)
        case BetaCalibrator():
            return _Beta(calibrator)
        case IsotonicCalibrator():
            return _Isotonic(calibrator)
    raise ModelError(
        f"export: calibrator '{calibrator.kind}' has no graph form. Add one to ensemble/module.py."
    )


def _float32(values: Float64Array | np.float64) -> Tensor:
    """A float32 tensor of the same shape."""
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
