"""The choice of a calibrator by the number of positives; calibrators to and from JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from contracts.errors import DataError, ModelError, nearest_match
from contracts.rows import LabelArray
from ensemble.calibration.calibrator import (
    BetaCalibrator,
    Calibrator,
    InterceptCalibrator,
    PlattCalibrator,
    TemperatureCalibrator,
)
from ensemble.calibration.isotonic import IsotonicCalibrator
from ensemble.logistic import Float64Array

CALIBRATORS: dict[str, type[Calibrator]] = {
    calibrator.kind: calibrator
    for calibrator in (
        InterceptCalibrator,
        PlattCalibrator,
        BetaCalibrator,
        IsotonicCalibrator,
        TemperatureCalibrator,
    )
}

# Number of positives from which each of these calibrators is used; below the first only an intercept is
# fitted.
PLATT_FROM, BETA_FROM, ISOTONIC_FROM = 20, 100, 500


def fit_calibrator(logit: Float64Array, labels: LabelArray) -> tuple[Calibrator, str]:
    """Fit the calibrator that the number of positives allows.

    Args:
        logit: ``[N]`` or ``[N, K]`` cross-fitted logits.
        labels: ``[N]``.

    Returns:
        The calibrator, and a sentence that says which it is and why.

    Raises:
        DataError: a class has no rows.
    """
    n_classes = 2 if logit.ndim == 1 else logit.shape[1]
    counts = np.bincount(labels, minlength=n_classes)
    if (counts == 0).any():
        raise DataError(
            f"calibration: class {int(np.argmin(counts))} of {n_classes} has no rows. "
            "Give out-of-fold rows of every class."
        )
    # K classes always get the K + 1 parameters of temperature and intercepts: the rare classes of a long tail
    # seldom have the positives for anything more flexible.
    if logit.ndim == 2:
        calibrator: Calibrator = TemperatureCalibrator.fit(logit, labels)
        return calibrator, f"Calibrated by one temperature and an intercept for each of {n_classes} classes."
    n_pos = int(counts[1])
    if n_pos < PLATT_FROM:
        calibrator, why = InterceptCalibrator.fit(logit, labels), "fewer than 20 allow only an intercept"
    elif n_pos < BETA_FROM:
        calibrator, why = PlattCalibrator.fit(logit, labels), "20 to 99 allow a slope and an intercept"
    elif n_pos < ISOTONIC_FROM:
        calibrator, why = BetaCalibrator.fit(logit, labels), "100 to 499 allow three parameters"
    else:
        calibrator, why = IsotonicCalibrator.fit(logit, labels), "500 or more allow a free increasing map"
    return calibrator, f"Calibrated by the {calibrator.kind} map on {n_pos} positives out of fold ({why})."


def calibrator_to_json(calibrator: Calibrator) -> dict[str, Any]:
    """``{"kind": ..., "state": {...}}``."""
    return {"kind": calibrator.kind, "state": calibrator.state()}


def calibrator_from_json(document: dict[str, Any]) -> Calibrator:
    """Rebuild from :func:`calibrator_to_json`.

    Raises:
        ModelError: the kind is unknown (a file of a newer version).
    """
    kind = document["kind"]
    if kind not in CALIBRATORS:
        raise ModelError(
            f"ensemble file: unknown calibrator '{kind}'.{nearest_match(kind, CALIBRATORS)} "
            "Run the ensemble command again with this version."
        )
    # JSON has no tuples; the frozen dataclasses compare and hash by tuples.
    state = {name: tuple(v) if isinstance(v, list) else v for name, v in document["state"].items()}
    return CALIBRATORS[kind](**state)
