"""Triage of each draw's test images, at several error rates and budgets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.triage.problems import TriageProblem
from contracts.scores import ScoreTable
from contracts.triage import TRIAGE_NAMES, triage_of
from ensemble.fitted import FittedEnsemble
from ensemble.pipeline import fit_ensemble

RATES = (0.02, 0.05, 0.1)
"""Asked of both errors; 90 images of the minority support 1 / 91."""
BUDGETS = (0.05, 0.1, 0.2)
"""Shares of images for people; at the training rows' share of the minority."""

Counts = npt.NDArray[np.int64]
"""``[4]`` images by position in :data:`contracts.triage.TRIAGE_NAMES`."""


@dataclass(frozen=True)
class Triaged:
    """Images of one draw at one rule.

    Attributes:
        minority: of kinds that were trained.
        normal: of the majority.
        novel: of a kind that was never trained; zeros where the set has none.
        rates: miss rate and share of false alarms that decided.
        prior: share of the minority among the training rows.
    """

    minority: Counts
    normal: Counts
    novel: Counts
    rates: tuple[float, float]
    prior: float


@dataclass(frozen=True)
class Judged:
    """One draw.

    Attributes:
        data_set: name.
        draw: its seed.
        at_rate: error rate asked of both → what became of the images.
        at_budget: share for people → the same.
    """

    data_set: str
    draw: int
    at_rate: dict[float, Triaged]
    at_budget: dict[float, Triaged]


def judge(problem: TriageProblem) -> Judged:
    """Fit the ensemble on a draw's out-of-fold scores, as ``ensemble`` does, and triage its other images."""
    fitted = fit_ensemble(problem.oof)
    at_rate = {rate: _triaged(fitted, (rate, rate), problem) for rate in RATES}
    at_budget = {}
    for budget in BUDGETS:
        _, levels = fit_ensemble(problem.oof, triage_rule=f"review<={budget:g}").conformal_minority
        at_budget[budget] = _triaged(fitted, levels.rates, problem)
    return Judged(problem.data_set, problem.draw, at_rate, at_budget)


def _triaged(fitted: FittedEnsemble, rates: tuple[float, float], problem: TriageProblem) -> Triaged:
    test = problem.test
    return Triaged(
        _counts(fitted, rates, test.rows(test.labels == 1)),
        _counts(fitted, rates, test.rows(test.labels == 0)),
        _counts(fitted, rates, problem.novel),
        rates,
        float((problem.oof.labels == 1).mean()),
    )


def _counts(fitted: FittedEnsemble, rates: tuple[float, float], table: ScoreTable) -> Counts:
    if not len(table.labels):
        return np.zeros(len(TRIAGE_NAMES), dtype=np.int64)
    codes = triage_of(fitted.p_normal(table.scores), fitted.p_minority(table.scores), *rates)
    return np.bincount(codes, minlength=len(TRIAGE_NAMES)).astype(np.int64)
