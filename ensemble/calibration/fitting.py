"""The choice of a calibrator by the number of positives; calibrators to and from JSON."""

from __future__ import annotations

from typing import Any

from contracts.errors import DataError, ModelError, nearest_match
from contracts.rows import LabelArray
from ensemble.calibration.calibrator import (
    BetaCalibrator,
    Calibrator,
    PlattCalibrator,
    TemperatureCalibrator,
)
from ensemble.calibration.isotonic import IsotonicCalibrator
from ensemble.logistic import Float64Array

CALIBRATORS: dict[str, type[Calibrator]] = {
    calibrator.kind: calibrator
    for calibrator in (
        PlattCalibrator,
        BetaCalibrator,
        IsotonicCalibrator,
        TemperatureCalibrator,
    )
}

# Number of positives from which each of these calibrators is used; below the first it is Platt's.
BETA_FROM, ISOTONIC_FROM = 100, 500

# Positives below which a probability owes more to the prior than to them, and what that meant on the splits
# of docs/results/fusion.md: mean calibration error of the test rows by number of positives, up to and
# including it.
ROUGH_BELOW = 10
_USUAL_ERROR = ((1, 0.15), (ROUGH_BELOW - 1, 0.05))


def fit_calibrator(logit: Float64Array, labels: LabelArray) -> tuple[Calibrator, str]:
    """Fit the calibrator that the number of positives allows.

    Args:
        logit: ``[N]`` or ``[N, K]`` cross-fitted logits.
        labels: ``[N]``; the minority may be missing.

    Returns:
        The calibrator, and a sentence that says which it is and why, and what it cannot promise.

    Raises:
        DataError: there are no majority rows.
    """
    # K classes always get the K + 1 parameters of temperature and intercepts: the rare classes of a long tail
    # seldom have the positives for anything more flexible.
    if logit.ndim == 2:
        n_classes = logit.shape[1]
        calibrator: Calibrator = TemperatureCalibrator.fit(logit, labels)
        return calibrator, f"Calibrated by one temperature and an intercept for each of {n_classes} classes."
    n_pos = int(labels.sum())
    if n_pos == len(labels):
        raise DataError("calibration: there are no majority rows. Give out-of-fold rows of the majority.")
    if n_pos < BETA_FROM:
        calibrator, why = PlattCalibrator.fit(logit, labels), "up to 99 allow a slope and an intercept"
    elif n_pos < ISOTONIC_FROM:
        calibrator, why = BetaCalibrator.fit(logit, labels), "100 to 499 allow three parameters"
    else:
        calibrator, why = IsotonicCalibrator.fit(logit, labels), "500 or more allow a free increasing map"
    sentence = f"Calibrated by the {calibrator.kind} map on {n_pos} positives out of fold ({why})."
    return calibrator, sentence + _roughness(n_pos)


def _roughness(n_pos: int) -> str:
    """What few positives cannot promise, as a sentence with a space before it; empty where they suffice."""
    for most, error in _USUAL_ERROR:
        if n_pos <= most:
            images = "1 minority image" if n_pos == 1 else f"{n_pos} minority images"
            return (
                f" With {images} the probability is rough: it rests on what was usual on other data sets, "
                f"where it was off by {error:g} on average and in single sets by several times that. Trust "
                "the order of the images, and p_normal."
            )
    return ""


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
