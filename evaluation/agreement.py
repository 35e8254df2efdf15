"""How far two ways of computing the same model agree, on rows that no model saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from contracts.rows import LabelArray
from evaluation.ranking import macro_auroc, ranking_figures

MOST_AUROC_CHANGE = 0.002
"""Largest change of the AUROC that a faster way of computing may bring, either way."""

Numbers = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Outputs:
    """What one way of computing said of N images; K classes, M score columns.

    Attributes:
        probability: ``[N]`` of the minority, ``[N, K]`` for K > 2 classes, 0…1.
        decision: ``[N]`` class numbers.
        member_scores: ``[N, M]``, higher = more like the minority.
    """

    probability: Numbers
    decision: npt.NDArray[np.integer[Any]]
    member_scores: Numbers


@dataclass(frozen=True)
class Agreement:
    """How a faster way compares with the reference.

    Attributes:
        images: N.
        auroc: of the faster way; macro one-vs-rest for K > 2 classes.
        auroc_change: the same minus the reference's.
        max_probability_difference: over images (and classes).
        decisions_changed: images that get another decision.
        rank_correlation: score column → Spearman's rho with the reference's, -1…1; NaN for a constant one.
    """

    images: int
    auroc: float
    auroc_change: float
    max_probability_difference: float
    decisions_changed: int
    rank_correlation: dict[str, float]

    @property
    def accepted(self) -> bool:
        """True when the AUROC has changed by no more than :data:`MOST_AUROC_CHANGE`; NaN is not accepted."""
        return abs(self.auroc_change) <= MOST_AUROC_CHANGE

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON facts, with the limit and the verdict."""
        return {**asdict(self), "auroc_limit": MOST_AUROC_CHANGE, "accepted": self.accepted}


def agreement(labels: LabelArray, reference: Outputs, other: Outputs, columns: Sequence[str]) -> Agreement:
    """Compare two ways of computing on the same images.

    Args:
        labels: ``[N]`` true classes, the minority last; both (all) classes must be there.
        reference: what the slow way said.
        other: what the fast way said.
        columns: M names of the score columns.

    Returns:
        The figures; a NaN anywhere in ``other`` makes its figure NaN and the whole not accepted.
    """
    of_reference, of_other = (_auroc(labels, outputs.probability) for outputs in (reference, other))
    return Agreement(
        images=len(labels),
        auroc=of_other,
        auroc_change=of_other - of_reference,
        max_probability_difference=float(np.abs(other.probability - reference.probability).max()),
        decisions_changed=int((other.decision != reference.decision).sum()),
        rank_correlation={
            name: _spearman(reference.member_scores[:, index], other.member_scores[:, index])
            for index, name in enumerate(columns)
        },
    )


def _auroc(labels: LabelArray, probability: Numbers) -> float:
    p = probability.astype(np.float64)
    if not np.isfinite(p).all():
        return float("nan")
    if p.ndim == 1:
        return ranking_figures(labels == 1, p)["auroc"]
    return macro_auroc(labels, p)


def _spearman(one: Numbers, two: Numbers) -> float:
    if np.ptp(one) == 0.0 or np.ptp(two) == 0.0 or not np.isfinite(two).all():
        return float("nan")
    return float(spearmanr(one, two).statistic)
