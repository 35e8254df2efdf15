"""Problems of the leave-one-kind-out protocol: score tables with and without one kind among the labels.

A draw is trained on with all kinds of the minority and once more without each of them; test images of that
kind are then of a kind never seen. One-class members are fitted once a draw, for they see no minority image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.few_labels.draws import draw_of
from benchmarks.few_labels.fits import FewLabels
from benchmarks.few_labels.sets import LabelledSet, SetPlan, load_set
from benchmarks.few_labels.tables import Problem, scores_on
from ensemble.unseen import UnseenKinds
from reporting.terminal import note
from workflow.run.copies.views import views_to_fit
from workflow.run.features import BackboneWithStore, load_backbones, rows_to_learn_from
from workflow.run.fits import read_result
from workflow.run.kinds import kind_fits_of, kinds_of_run, unseen_kinds, without_its_kind
from workflow.training.train import run_fit


@dataclass(frozen=True)
class WithEvidence:
    """A problem's score tables, and the fits without a kind that ``train-all`` would add.

    Attributes:
        problem: the tables.
        unseen: what the training rows say of kinds never seen; None where they hold fewer than two.
    """

    problem: Problem
    unseen: UnseenKinds | None


@dataclass(frozen=True)
class KindProblem:
    """A draw with all kinds among the labels, and without each of them.

    Attributes:
        seen: trained on all kinds.
        without: kind → trained on all others.
        kind_of_test: ``[n]`` kind of each test row; empty for the majority's.
    """

    seen: WithEvidence
    without: dict[str, WithEvidence]
    kind_of_test: npt.NDArray[np.str_]


def make_problems(
    plans: Sequence[SetPlan],
    data: Path | None,
    cache: Path,
    counts: Sequence[int],
    draws: int,
    members: Sequence[str],
) -> Iterator[KindProblem]:
    """Make the problems of some sets, draw by draw; fits that an earlier call left are read.

    Args:
        plans: which sets.
        data: directory that holds the data sets.
        cache: for features and fits.
        counts: numbers of labels over all kinds.
        draws: of each set.
        members: member types; the calibrated baseline is one of them.
    """
    sets = [found for plan in plans if (found := load_set(plan, data, cache, members)) is not None]
    for seed in range(draws):
        for of in sets:
            yield from _problems_of(of, seed, cache, counts)


def _problems_of(of: LabelledSet, seed: int, cache: Path, counts: Sequence[int]) -> Iterator[KindProblem]:
    draw = draw_of(of.labels, of.groups, max(counts), seed)
    [loaded] = load_backbones(of.config, {plan.backbone for plan in of.config.members}).values()
    needed = [of.rows[i] for i in np.concatenate([draw.majority, draw.candidates, draw.test])]
    kind_of_test = np.array([of.rows[i].subtype if of.labels[i] else "" for i in draw.test])
    for n_labels in counts:
        seen = FewLabels.make(of, draw, n_labels)
        views = views_to_fit(seen.prepared, of.config.members)
        loaded.fill(seen.prepared, needed, of.config.decode, "cpu", views.pairs)
        kinds = sorted({str(of.rows[i].subtype) for i in draw.candidates[seen.labelled]})
        yield KindProblem(
            _with_evidence(seen, loaded, cache),
            {kind: _with_evidence(FewLabels.make(of, draw, n_labels, kind), loaded, cache) for kind in kinds},
            kind_of_test,
        )


def _with_evidence(problem: FewLabels, loaded: BackboneWithStore, cache: Path) -> WithEvidence:
    tables = scores_on(problem, loaded, cache)
    config, data = problem.config, problem.prepared
    folds = kinds_of_run(config, data).folds
    if folds is None:
        return WithEvidence(tables, None)
    results = {}
    for fit in kind_fits_of(config, data, config.members):
        kept = replace(fit, path=cache / "fits" / fit.member.name / f"kinds-{fit.key}.npz")
        result = read_result(kept)
        if result is None:
            note(f"{problem.name}, {fit.label}")
            ordinary, fold_of_row = without_its_kind(config, data, fit)
            rows, sources = rows_to_learn_from(loaded.store, data, fit.member, config.decode)
            # Its test rows are scored by final fits alone, and this is none.
            result = run_fit(ordinary, rows, rows, fold_of_row, "cpu", sources)
            result.write(kept)
        results[fit] = result
    if any(result.collapsed for result in results.values()):
        return WithEvidence(tables, None)
    return WithEvidence(tables, unseen_kinds(tables.oof, folds, results))
