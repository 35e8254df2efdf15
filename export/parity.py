"""The parity gate: an exported file must repeat the trained system's numbers before it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from contracts.rows import FloatArray, ImageArray
from contracts.triage import triage_of
from export.scoring import load_model
from export.scoring.model import Scores, ScoringModel

TOLERANCE = 1e-4
"""Largest allowed difference of a probability."""

FUSED_TOLERANCE = 0.005
"""By how many standard deviations the fused score may differ, which decides the step of p_normal."""

_ROUNDING = 1e-6
"""p_normal is looked up, not computed: what lies within its bounds does so but for float32's rounding."""

SCORE_TOLERANCE = 0.05
"""Largest allowed difference of a member's score, in the column's standard deviations. It catches what
probabilities cannot show: a member that the stack gave no weight is still an output that people read."""

BATCHES = (1, 2, 7)
"""Batch sizes that are tried; exporters have been seen to freeze one."""


@dataclass(frozen=True)
class ParityReport:
    """How closely the file repeats the trained system.

    Attributes:
        images: number of test images compared, at every batch size.
        max_probability_difference: over images and batch sizes; None where there is no probability.
        max_p_normal_excess: by how much p_normal or p_minority leaves its bounds, over all images
            and batch sizes.
        max_score_difference: member column → largest difference, relative to the column's spread.
        max_watched_difference: of a watched feature, in standard deviations of training images; None where
            the file gives none.
    """

    images: int
    max_probability_difference: float | None
    max_p_normal_excess: float
    max_score_difference: dict[str, float]
    max_watched_difference: float | None = None


@dataclass(frozen=True)
class Expected:
    """What the trained system said of the images that a file is compared on.

    Attributes:
        member_scores: ``[n, M]``.
        probability: ``[n]`` (``[n, K]`` for K > 2); None where there is none.
        p_normal_bounds: ``[n]`` least and ``[n]`` largest p_normal. It is a step function, so that a score
            which differs in the last digits may lie on the next step.
        spreads: ``[M]`` standard deviation of each column over the test set, for scale.
        p_minority_bounds: likewise of p_minority; None where there is none.
        levels: the error rates by which triage follows from both; None where there is none.
        watched_features: ``[n, k]`` by the features that training computed, in standard deviations; None
            where the file gives none.
    """

    member_scores: FloatArray
    probability: npt.NDArray[np.float64] | None
    p_normal_bounds: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    spreads: npt.NDArray[np.float64]
    p_minority_bounds: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None
    levels: tuple[float, float] | None = None
    watched_features: FloatArray | None = None


def check_parity(path: Path, images: ImageArray, expected: Expected) -> ParityReport:
    """Compare an exported file with what the trained system said of the same images.

    Args:
        path: the exported file.
        images: ``[n, S, S, 3]`` uint8 images at working size.
        expected: what the trained system said of them.

    Raises:
        ModelError: a batch size fails, a probability differs by more than 1e-4, p_normal lies outside its
            bounds, or a score or a watched feature differs by more than 0.05 standard deviations; names the
            stage.
    """
    model = load_model(path)
    worst_probability = None if expected.probability is None else 0.0
    worst_excess = 0.0
    worst_watched = None if expected.watched_features is None else 0.0
    worst_scores = np.zeros(expected.member_scores.shape[1])
    for batch in BATCHES:
        scores = _run_in_batches(model, images, batch)
        # np.maximum keeps NaN, which max() would drop and so let pass.
        if expected.probability is not None:
            difference = _probability_difference(scores, expected.probability, batch)
            worst_probability = float(np.maximum(worst_probability or 0.0, difference))
        worst_excess = float(np.maximum(worst_excess, _excess(scores.p_normal, expected.p_normal_bounds)))
        if expected.p_minority_bounds is not None:
            excess = _excess(scores.p_minority, expected.p_minority_bounds)
            worst_excess = float(np.maximum(worst_excess, excess))
        _check_triage(scores, expected.levels)
        if expected.watched_features is not None:
            difference = _watched_difference(scores, expected.watched_features)
            worst_watched = float(np.maximum(worst_watched or 0.0, difference))
        # Relative to the column's spread, because members' units differ by orders of magnitude; 1e-12 avoids
        # 0 / 0 for a constant column.
        differences = np.abs(scores.member_scores - expected.member_scores).max(axis=0)
        worst_scores = np.maximum(worst_scores, differences / np.maximum(expected.spreads, 1e-12))
    report = ParityReport(
        images=len(images),
        max_probability_difference=worst_probability,
        max_p_normal_excess=worst_excess,
        max_score_difference=dict(zip(model.members, worst_scores.tolist(), strict=True)),
        max_watched_difference=worst_watched,
    )
    # Written so that NaN fails: it is not below any limit.
    judgements_agree = (worst_probability or 0.0) <= TOLERANCE and worst_excess <= _ROUNDING
    if not (judgements_agree and (worst_scores <= SCORE_TOLERANCE).all()):
        raise ModelError(_failure(report))
    if not (worst_watched or 0.0) <= SCORE_TOLERANCE:
        raise ModelError(
            "export, parity gate: stage watched features: they differ from the trained system's by up to "
            f"{worst_watched:.1e} standard deviations (limit {SCORE_TOLERANCE:g}). The file is not kept."
        )
    return report


def _probability_difference(scores: Scores, expected: npt.NDArray[np.float64], batch: int) -> float:
    """The largest difference of a probability; NaN if there is one among them.

    Raises:
        ModelError: the file gives none, or in another shape.
    """
    shape = None if scores.probability is None else scores.probability.shape
    if scores.probability is None or shape != expected.shape:
        raise ModelError(
            f"export, parity gate: stage running at batch {batch}: probabilities of shape {shape} where the "
            f"run has {expected.shape}."
        )
    return float(np.abs(scores.probability - expected).max())


def _watched_difference(scores: Scores, expected: FloatArray) -> float:
    """The largest difference of a watched feature; NaN where the file gives none."""
    if scores.watched_features is None:
        return float("nan")
    return float(np.abs(scores.watched_features - expected).max(initial=0.0))


def _excess(p: FloatArray | None, bounds: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]) -> float:
    """How far p-values lie outside their bounds, 0 or more; NaN where the file gives none."""
    if p is None:
        return float("nan")
    low, high = bounds
    return float(np.maximum(np.maximum(low - p, p - high), 0.0).max())


def _check_triage(scores: Scores, levels: tuple[float, float] | None) -> None:
    """Hold the file's triage to its own p-values, which are held to the trained system's.

    Raises:
        ModelError: it differs, or the file lacks what the run has.
    """
    if levels is None:
        return
    if scores.p_normal is None or scores.p_minority is None or scores.triage is None:
        raise ModelError("export, parity gate: stage ensemble: the file lacks p_minority or triage.")
    expected = triage_of(scores.p_normal, scores.p_minority, *levels)
    if different := int((expected != scores.triage).sum()):
        raise ModelError(
            f"export, parity gate: stage ensemble: the triage of {different} of {len(expected)} images does "
            "not follow from their p-values. The file is not kept."
        )


def _failure(report: ParityReport) -> str:
    """Name the stage: a member if its score is off by more than rounding, else the ensemble."""
    member, difference = max(
        report.max_score_difference.items(), key=lambda item: np.inf if np.isnan(item[1]) else item[1]
    )
    # Scores that agree while probabilities do not leave only the ensemble to blame.
    stage = "ensemble" if difference <= 10 * TOLERANCE else f"member {member}"
    probability = report.max_probability_difference
    of_probability = (
        ""
        if probability is None
        else f"the file's probabilities differ from the trained system's by up to {probability:.1e} (limit "
        f"{TOLERANCE:.0e}), "
    )
    return (
        f"export, parity gate: stage {stage}: on {report.images} images {of_probability}its p_normal or "
        f"p_minority lies up to {report.max_p_normal_excess:.1e} outside what rounding explains (limit "
        f"{_ROUNDING:.0e}), its member scores differ by up to {difference:.1e} standard deviations, in "
        f"{member} (limit {SCORE_TOLERANCE:g}). The file is not kept. Train the member again, or leave it "
        "out of the recipe."
    )


def _run_in_batches(model: ScoringModel, images: ImageArray, batch: int) -> Scores:
    parts = []
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        try:
            parts.append(model.run(chunk))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"export, parity gate: stage running at batch {len(chunk)}: {reason}") from error
    return Scores(
        probability=_joined([part.probability for part in parts]),
        p_normal=_joined([part.p_normal for part in parts]),
        decision=np.concatenate([part.decision for part in parts]),
        member_scores=np.concatenate([part.member_scores for part in parts]),
        anomaly_map=None,
        p_minority=_joined([part.p_minority for part in parts]),
        triage=_joined([part.triage for part in parts]),
        watched_features=_joined([part.watched_features for part in parts]),
    )


def _joined(parts: list[Any]) -> Any:
    """Parts of an output that a file has or has not."""
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if there else None
