"""Rules of fusion, each from an out-of-fold table to calibrated log-odds.

A rule is added by one entry in :data:`RULES`. Rules that were tried and not taken stay where their code is
small; the others are told of on the page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.fusion.former import former_gated, former_stack
from contracts.scores import ScoreTable
from ensemble.calibration.calibrator import Calibrator
from ensemble.calibration.fitting import fit_calibrator
from ensemble.logistic import Float64Array
from ensemble.pipeline import fit_ensemble, fit_fusion, fit_single
from ensemble.stacking.combination import LinearCombination
from ensemble.stacking.stacker import cross_fit
from ensemble.stacking.training_scores import TrainingScores
from workflow.settings.registry import BASELINE

ENSEMBLE, MEAN, GREEDY = "ensemble", "plain mean", "greedy"
FORMER, CALIBRATED_BASELINE = "former gated stack", "calibrated baseline"
BEST_MEMBER = "best member (oracle)"


class Fused(Protocol):
    """What a rule makes; a :class:`ensemble.fitted.FittedEnsemble` is one."""

    def calibrated_logit(self, scores: npt.NDArray[np.floating[Any]]) -> Float64Array:
        """``[N, M]`` scores → ``[N]`` calibrated logits at the class shares of the out-of-fold rows."""


@dataclass(frozen=True)
class FusedByMethod:
    """A combination that is none of the product's, calibrated as the product does it."""

    combination: LinearCombination
    calibrator: Calibrator

    def calibrated_logit(self, scores: npt.NDArray[np.floating[Any]]) -> Float64Array:
        """See :class:`Fused`."""
        return self.calibrator(self.combination.logits(scores))


@dataclass(frozen=True)
class Rule:
    """A rule of fusion.

    Attributes:
        what: it does, in half a sentence.
        fit: out-of-fold table → what it makes of it.
        version: raised when a rule that is a copy changes; None for rules of the product, whose figures are
            made again when the product's code changes.
    """

    what: str
    fit: Callable[[ScoreTable], Fused]
    version: int | None = None


def by_method(
    choose: Callable[[TrainingScores], Callable[[TrainingScores], LinearCombination]],
) -> Callable[[ScoreTable], Fused]:
    """A rule from a function that chooses a method; the method's cross-fitted logits are calibrated."""

    def fit(oof: ScoreTable) -> Fused:
        training = TrainingScores.from_table(oof)
        method = choose(training)
        calibrator, _ = fit_calibrator(cross_fit(training, method), training.labels)
        return FusedByMethod(method(training), calibrator)

    return fit


RULES: dict[str, Rule] = {
    ENSEMBLE: Rule("what `ensemble` makes", fit_ensemble),
    FORMER: Rule("ridge to zero, dropped on a point estimate", by_method(former_gated), version=1),
    "former stack": Rule("the same without its gate", by_method(lambda _: former_stack), version=1),
    MEAN: Rule("mean of the standardised scores", lambda oof: fit_fusion(oof, "plain_mean")),
    GREEDY: Rule("greedy selection with replacement", lambda oof: fit_fusion(oof, "greedy")),
    "best single": Rule("the member that is best out of fold", lambda oof: fit_fusion(oof, "best_single")),
    CALIBRATED_BASELINE: Rule("plain cross-entropy alone", lambda oof: fit_single(oof, BASELINE)),
}
"""All rules by name."""
