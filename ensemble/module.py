"""A fitted ensemble as a torch module, which becomes the last part of the ONNX graph.

It repeats :meth:`ensemble.fitted.FittedEnsemble.predict`, ``p_normal`` and ``decide`` in float32 with
operations that every ONNX runtime has. Two rules keep rounding errors at float32's own: large constants are
subtracted before anything is scaled, and piecewise maps are sums of non-negative parts, never of hinges that
cancel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from contracts.errors import ModelError
from contracts.triage import REVIEW
from ensemble.calibration.calibrator import (
    BetaCalibrator,
    Calibrator,
    PlattCalibrator,
    TemperatureCalibrator,
)
from ensemble.calibration.isotonic import IsotonicCalibrator
from ensemble.conformal import ConformalClass
from ensemble.fitted import FittedEnsemble
from ensemble.logistic import Float64Array
from ensemble.stacking.transform import ColumnTransform


class EnsembleOutputs(NamedTuple):
    """What an ensemble says of N images.

    Attributes:
        probability: ``[N]`` or ``[N, K]`` float32; None without labels.
        p_normal: ``[N]`` float32.
        decision: ``[N]`` int64.
        p_minority: ``[N]`` float32; None without labels.
        triage: ``[N]`` int64, position in :data:`contracts.triage.TRIAGE_NAMES`; None without labels.
    """

    probability: Tensor | None
    p_normal: Tensor
    decision: Tensor
    p_minority: Tensor | None = None
    triage: Tensor | None = None


class EnsembleModule(nn.Module):
    """``forward(scores [N, M], prior, threshold, miss_rate, false_alarms)``.

    ``prior`` and ``threshold`` are ``[]`` for two classes and ``[K]`` otherwise, the error rates of triage
    ``[]``. Without labels it is ``forward(scores, threshold)``, and the threshold is on p_normal. All inputs
    are float32. Traceable with a dynamic N.

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
        self.register_buffer("weights", _float32(fitted.combination.weights))
        self.register_buffer("intercept", _float32(fitted.combination.intercept))
        self.normal = _Conformal(fitted.normal)
        self.calibrator: nn.Module | None = None
        if not fitted.has_probability:
            return
        self.minority = _Conformal(fitted.conformal_minority[0])
        calibrator, trained_prior, _ = fitted.calibration
        self.calibrator = _calibrator_module(calibrator)
        trained = np.asarray(trained_prior, dtype=np.float64)
        # Log-odds for two classes, log shares for K: what the forward pass subtracts. It is computed in
        # float64 here, and only the result is rounded.
        log_prior = np.log(trained) - (np.log1p(-trained) if self.n_classes == 2 else 0.0)
        self.register_buffer("trained_log_prior", _float32(log_prior))

    def forward(self, scores: Tensor, *settings: Tensor) -> EnsembleOutputs:
        """What the ensemble says; see the class for the settings."""
        logits = self.transform(scores) @ self.weights + self.intercept
        if self.calibrator is None:
            (alpha,) = settings
            p_normal = self.normal(logits.squeeze(1))
            return EnsembleOutputs(None, p_normal, (p_normal <= alpha).to(torch.int64))
        prior, threshold, miss_rate, false_alarms = settings
        if self.n_classes == 2:
            calibrated = self.calibrator(logits.squeeze(1))
            # log1p keeps the digits of a rare prior that 1 - prior in float32 would lose.
            shift = torch.log(prior) - torch.log1p(-prior) - self.trained_log_prior
            probability = torch.sigmoid(calibrated + shift)
            decision = (probability >= threshold).to(torch.int64)
            fused = logits.squeeze(1)
        else:
            calibrated = self.calibrator(logits)
            probability = torch.softmax(calibrated + (torch.log(prior) - self.trained_log_prior), dim=1)
            decision = (probability / threshold).argmax(dim=1)
            # The minority, the last class, against all others; see ensemble.conformal.fused_score.
            fused = logits[:, -1] - torch.logsumexp(logits[:, :-1], dim=1)
        p_normal, p_minority = self.normal(fused), self.minority(-fused)
        # PASS 0 and FAIL 1 where one class is in the set; else REVIEW 2 for both, NOVEL 3 for none.
        may_be_normal, may_be_minority = p_normal > false_alarms, p_minority > miss_rate
        not_normal, is_one = (~may_be_normal).to(torch.int64), may_be_normal != may_be_minority
        triage = torch.where(is_one, not_normal, not_normal + REVIEW)
        return EnsembleOutputs(probability, p_normal, decision, p_minority, triage)


class _Conformal(nn.Module):
    """:class:`ensemble.conformal.ConformalClass`: knots are counted, then the level is looked up.

    A level is one float32 number, not a sum of steps, so that ``p_normal <= alpha`` decides as in float64.
    Every knot is moved up by a few units of float32's last place: a score that equals a calibration score, as
    that of a copied image does, must count it in spite of rounding. A p-value can only grow by that.
    """

    knots: Tensor
    levels: Tensor

    def __init__(self, of_class: ConformalClass) -> None:
        super().__init__()
        knots = np.asarray(of_class.knots, dtype=np.float64)
        rounding = 4.0 * float(np.spacing(np.float32(max(1.0, np.abs(knots).max()))))
        self.register_buffer("knots", _float32(knots + rounding))
        self.register_buffer("levels", _float32(np.asarray(of_class.levels)))

    def forward(self, scores: Tensor) -> Tensor:
        """``[N]`` → ``[N]``."""
        passed = (scores.unsqueeze(1) > self.knots).to(torch.int64).sum(dim=1)
        return self.levels.index_select(0, passed)


class _Transform(nn.Module):
    """:class:`ensemble.stacking.transform.ColumnTransform`."""

    mean: Tensor
    mean_rest: Tensor
    inverse_std: Tensor

    def __init__(self, transform: ColumnTransform) -> None:
        super().__init__()
        mean = transform.mean
        self.register_buffer("mean", _float32(mean))
        # The part of the mean that float32 cannot hold; it is subtracted second.
        self.register_buffer("mean_rest", _float32(mean - mean.astype(np.float32).astype(np.float64)))
        self.register_buffer("inverse_std", _float32(1.0 / transform.std))

    def forward(self, scores: Tensor) -> Tensor:
        """``[N, M]`` → ``[N, M]``."""
        # Subtracted in two steps; adding the two constants first would round the rest away.
        return ((scores - self.mean) - self.mean_rest) * self.inverse_std


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
