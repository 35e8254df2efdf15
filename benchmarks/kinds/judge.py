"""Figures of ways to fuse members, on kinds that they have seen and on kinds that they have not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmarks.kinds.problems import KindProblem, WithEvidence
from contracts.member import MemberKind
from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from ensemble.pipeline import fit_ensemble, fit_fusion, fit_single
from evaluation.ranking import ranking_figures
from workflow.settings.registry import BASELINE

ENSEMBLE, UNGUARDED, WITHOUT = "ensemble", "ensemble, one gate", "without one-class members"
FEWEST_IMAGES = 5
"""Test images of a kind below which no figure is made of it."""

Ask = Callable[[ScoreTable], tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]
"""Scores to judge → how much each row is like the minority, and what is decided."""


@dataclass(frozen=True)
class Way:
    """A way to fuse.

    Attributes:
        what: it is, in half a sentence.
        fit: score tables, and what they say of kinds never seen → what judges rows.
    """

    what: str
    fit: Callable[[WithEvidence], Ask]


def _ask(fitted: FittedEnsemble) -> Ask:
    return lambda table: (fitted.fused_scores(table.scores), fitted.decide(table.scores))


def _of_members(kinds: Sequence[MemberKind]) -> Callable[[WithEvidence], Ask]:
    """The ensemble of members of some kinds alone."""

    def fit(given: WithEvidence) -> Ask:
        ask = _ask(fit_ensemble(_narrowed(given.problem.oof, kinds)))
        return lambda table: ask(_narrowed(table, kinds))

    return fit


def _narrowed(table: ScoreTable, kinds: Sequence[MemberKind]) -> ScoreTable:
    kept = [i for i, column in enumerate(table.columns) if column.kind in kinds]
    return replace(table, columns=tuple(table.columns[i] for i in kept), scores=table.scores[:, kept].copy())


WAYS: dict[str, Way] = {
    ENSEMBLE: Way(
        "what `ensemble` makes after `train-all`, with the gate on kinds never seen",
        lambda given: _ask(fit_ensemble(given.problem.oof, unseen=given.unseen)),
    ),
    UNGUARDED: Way(
        "the same without that gate, as for runs whose kinds are unknown",
        lambda given: _ask(fit_ensemble(given.problem.oof)),
    ),
    WITHOUT: Way("the ensemble of the supervised members", _of_members(("supervised", "semisupervised"))),
    "one-class members alone": Way("the ensemble of these", _of_members(("oneclass",))),
    "always drawn back": Way(
        "the stack with a quarter of its weight drawn back, whatever the gate says",
        lambda given: _ask(fit_fusion(given.problem.oof, "guarded_stack")),
    ),
    "plain mean": Way(
        "mean of the standardised scores", lambda given: _ask(fit_fusion(given.problem.oof, "plain_mean"))
    ),
    "calibrated baseline": Way(
        "plain cross-entropy alone", lambda given: _ask(fit_single(given.problem.oof, BASELINE))
    ),
}
"""All ways by name."""


@dataclass(frozen=True)
class Figures:
    """Of one kind's test images against the majority's.

    Attributes:
        auroc: of the fused scores.
        average_precision: of the fused scores.
        recall: share of the kind's images that are decided as the minority.
    """

    auroc: float
    average_precision: float
    recall: float


@dataclass(frozen=True)
class Judged:
    """One kind of one problem.

    Attributes:
        data_set: name.
        kind: which.
        seen: way → figures where images of the kind were among the labels.
        unseen: way → figures where none was.
        drawn_back: whether the gate drew the stack back where the kind was not seen.
    """

    data_set: str
    kind: str
    seen: dict[str, Figures]
    unseen: dict[str, Figures]
    drawn_back: bool


def judge(problem: KindProblem) -> list[Judged]:
    """All ways on all kinds of a problem that has enough test images of them."""
    test = problem.seen.problem.test
    seen = {name: way.fit(problem.seen) for name, way in WAYS.items()}
    judged = []
    for kind, given in problem.without.items():
        mine = problem.kind_of_test == kind
        if mine.sum() < FEWEST_IMAGES:
            continue
        rows = mine | (test.labels == 0)
        judged.append(
            Judged(
                problem.seen.problem.data_set,
                kind,
                {name: _figures(ask, test.rows(rows)) for name, ask in seen.items()},
                {name: _figures(way.fit(given), given.problem.test.rows(rows)) for name, way in WAYS.items()},
                fit_ensemble(given.problem.oof, unseen=given.unseen).method == "guarded_stack",
            )
        )
    return judged


def _figures(ask: Ask, table: ScoreTable) -> Figures:
    fused, decision = ask(table)
    ranked = ranking_figures(table.labels == 1, fused)
    return Figures(
        ranked["auroc"], ranked["average_precision"], float((decision[table.labels == 1] == 1).mean())
    )
