"""The parity gate: an exported file must repeat the trained system's numbers before it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from contracts.rows import FloatArray, ImageArray
from export.scoring import load_model
from export.scoring.model import ScoringModel, Scores

TOLERANCE = 1e-4
"""Largest allowed difference of a probability."""

BATCHES = (1, 2, 7)
"""Batch sizes that are tried; exporters have been seen to freeze one."""


@dataclass(frozen=True)
class ParityReport:
    """How closely the file repeats the trained system.

    Attributes:
        images: number of held-out images compared, at every batch size.
        max_probability_difference: over images and batch sizes.
        max_score_difference: member column → largest difference, relative to the column's spread.
    """

    images: int
    max_probability_difference: float
    max_score_difference: dict[str, float]


def check_parity(
    path: Path,
    images: ImageArray,
    member_scores: FloatArray,
    p_minority: npt.NDArray[np.float64],
    spreads: npt.NDArray[np.float64],
) -> ParityReport:
    """Compare an exported file with what the trained system said of the same images.

    Args:
        path: the exported file.
        images: ``[n, S, S, 3]`` uint8 held-out images at working size.
        member_scores: ``[n, M]`` the run's scores of these images.
        p_minority: ``[n]`` the run's probabilities of these images.
        spreads: ``[M]`` standard deviation of each column over the held-out split, for scale.

    Raises:
        ModelError: a batch size fails, or a probability differs by more than 1e-4; names the stage.
    """
    model = load_model(path)
    worst_probability = 0.0
    worst_scores = np.zeros(member_scores.shape[1])
    for batch in BATCHES:
        scores = _run_in_batches(model, images, batch)
        worst_probability = max(worst_probability, float(np.abs(scores.probability - p_minority).max()))
        relative = np.abs(scores.member_scores - member_scores).max(axis=0) / np.maximum(spreads, 1e-12)
        worst_scores = np.maximum(worst_scores, relative)
    report = ParityReport(
        images=len(images),
        max_probability_difference=worst_probability,
        max_score_difference=dict(zip(model.members, worst_scores.tolist(), strict=True)),
    )
    if not worst_probability <= TOLERANCE:
        raise ModelError(_failure(report))
    return report


def _failure(report: ParityReport) -> str:
    """Name the stage: a member if its score is off by more than rounding, else the ensemble."""
    member, difference = max(report.max_score_difference.items(), key=lambda item: item[1])
    stage = f"member {member}" if difference > 10 * TOLERANCE else "ensemble"
    return (
        f"export, parity gate: stage {stage}: the file's probabilities differ from the trained system's by up "
        f"to {report.max_probability_difference:.1e} on {report.images} held-out images (limit {TOLERANCE:.0e}); "
        f"the largest score difference is {difference:.1e} standard deviations, in {member}. "
        "The file is not kept. Train the member again, or leave it out of the recipe."
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
        probability=np.concatenate([part.probability for part in parts]),
        decision=np.concatenate([part.decision for part in parts]),
        member_scores=np.concatenate([part.member_scores for part in parts]),
        anomaly_map=None,
    )
