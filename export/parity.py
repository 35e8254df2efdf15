"""The parity gate: an exported file must repeat the trained system's numbers before it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from contracts.rows import FloatArray, ImageArray
from export.scoring import load_model
from export.scoring.model import Scores, ScoringModel

TOLERANCE = 1e-4
"""Largest allowed difference of a probability."""

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
        images: ``[n, S, S, 3]`` uint8 test images at working size.
        member_scores: ``[n, M]`` the run's scores of these images.
        p_minority: ``[n]`` (``[n, K]`` for K > 2) the run's probabilities of these images.
        spreads: ``[M]`` standard deviation of each column over the test set, for scale.

    Raises:
        ModelError: a batch size fails, a probability differs by more than 1e-4, or a score by more than
            0.05 standard deviations; names the stage.
    """
    model = load_model(path)
    worst_probability = 0.0
    worst_scores = np.zeros(member_scores.shape[1])
    for batch in BATCHES:
        scores = _run_in_batches(model, images, batch)
        if scores.probability.shape != p_minority.shape:
            raise ModelError(
                f"export, parity gate: stage running at batch {batch}: probabilities of shape "
                f"{scores.probability.shape} where the run has {p_minority.shape}."
            )
        # np.maximum keeps NaN, which max() would drop and so let pass.
        worst_probability = float(
            np.maximum(worst_probability, np.abs(scores.probability - p_minority).max())
        )
        # Relative to the column's spread, because members' units differ by orders of magnitude; 1e-12 avoids
        # 0 / 0 for a constant column.
        relative = np.abs(scores.member_scores - member_scores).max(axis=0) / np.maximum(spreads, 1e-12)
        worst_scores = np.maximum(worst_scores, relative)
    report = ParityReport(
        images=len(images),
        max_probability_difference=worst_probability,
        max_score_difference=dict(zip(model.members, worst_scores.tolist(), strict=True)),
    )
    # Written so that NaN fails: it is not below any limit.
    probabilities_agree = worst_probability <= TOLERANCE
    if not (probabilities_agree and (worst_scores <= SCORE_TOLERANCE).all()):
        raise ModelError(_failure(report))
    return report


def _failure(report: ParityReport) -> str:
    """Name the stage: a member if its score is off by more than rounding, else the ensemble."""
    member, difference = max(
        report.max_score_difference.items(), key=lambda item: np.inf if np.isnan(item[1]) else item[1]
    )
    # Scores that agree while probabilities do not leave only the ensemble to blame.
    stage = "ensemble" if difference <= 10 * TOLERANCE else f"member {member}"
    return (
        f"export, parity gate: stage {stage}: on {report.images} test images the file's probabilities "
        f"differ from the trained system's by up to {report.max_probability_difference:.1e} (limit "
        f"{TOLERANCE:.0e}), its member scores by up to {difference:.1e} standard deviations, in {member} "
        f"(limit {SCORE_TOLERANCE:g}). The file is not kept. Train the member again, or leave it out of the "
        "recipe."
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
