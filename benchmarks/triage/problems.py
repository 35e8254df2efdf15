"""Draws that triage is fitted and judged on: score tables, kept as files.

Of ``elpv`` and ``gender`` each draw takes other images to train on. Of ``neu`` each draw also takes another
steel surface for the normal one and another that is never trained; the four others are the minority.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.few_labels.draws import draw_of
from benchmarks.few_labels.fits import FewLabels
from benchmarks.few_labels.sets import KIND_PLANS, PLANS, LabelledSet, SetPlan, load_set
from benchmarks.few_labels.tables import Problem, scores_on
from contracts.files import read_arrays, write_arrays
from contracts.scores import ScoreTable
from reporting.terminal import note
from workflow.run.features import BackboneWithStore, load_backbones

N_LABELS = {"elpv": 90, "gender": 90, "neu": 110, "neu_one": 180}
"""Images of the minority that are drawn, those of the kind that is then left out among them."""
MEMBERS = ("knn", "cnn")
"""One that learns from normal images and one that learns from labels: fitted in seconds, as 60 draws ask."""

_STEEL = tuple(name for name in KIND_PLANS if name.startswith("neu:"))
# They double what a fit costs, and none of what is measured here depends on them.
_WITHOUT_VIEWS = "views=none"


@dataclass(frozen=True)
class TriageProblem:
    """One draw.

    Attributes:
        data_set: ``elpv``, ``gender`` or ``neu``.
        draw: its seed.
        oof: out-of-fold table of the training rows.
        test: table of rows to be judged on, of classes and kinds that were trained.
        novel: table of rows of the kind that was never trained; empty where there is none.
    """

    data_set: str
    draw: int
    oof: ScoreTable
    test: ScoreTable
    novel: ScoreTable


def make_problems(
    names: Sequence[str], data: Path | None, cache: Path, draws: int, members: Sequence[str]
) -> Iterator[TriageProblem]:
    """Make the draws of some sets, or read what an earlier call left.

    Args:
        names: of sets, of :data:`N_LABELS`.
        data: directory that holds the data sets.
        cache: for features, fits and tables.
        draws: of each set.
        members: member types; the calibrated baseline is one of them.
    """
    loaded: dict[str, LabelledSet | None] = {}
    for draw in range(draws):
        for name in names:
            plan, novel = _plan_of(name, draw)
            path = cache / "triage-tables" / "-".join([name, f"d{draw}", *members])
            path = path.with_name(f"{path.name}.npz")
            tables = _read(path)
            if tables is None:
                if plan.name not in loaded:
                    loaded[plan.name] = load_set(plan, data, cache, members)
                of = loaded[plan.name]
                if of is None:
                    continue
                if name == "neu_one":
                    of = _only(of, (novel, _next(novel, plan)))
                tables, kinds = _made(of, draw, N_LABELS[name], novel, cache)
                tables.write(path)
                write_arrays(_kinds_file(path), {"kind_of_test": kinds}, {})
            yield _split(name, tables, read_arrays(_kinds_file(path))[0]["kind_of_test"], novel)


def _plan_of(name: str, draw: int) -> tuple[SetPlan, str]:
    """The set of a draw, and the kind that is never trained; empty for none."""
    if not name.startswith("neu"):
        plan, novel = PLANS[name], ""
    else:
        normal, turn = draw % len(_STEEL), draw // len(_STEEL)
        other = (normal + 1 + turn % (len(_STEEL) - 1)) % len(_STEEL)
        plan, novel = KIND_PLANS[_STEEL[normal]], _STEEL[other].partition(":")[2]
    return replace(plan, overrides=(*plan.overrides, _WITHOUT_VIEWS)), novel


def _next(novel: str, plan: SetPlan) -> str:
    """The surface that is the minority where it is one kind: the next that is neither normal nor left out."""
    names = [name.partition(":")[2] for name in _STEEL]
    start = names.index(novel)
    return next(
        names[(start + step) % len(names)]
        for step in range(1, len(names))
        if names[(start + step) % len(names)] != plan.majority
    )


def _only(of: LabelledSet, kinds: Sequence[str]) -> LabelledSet:
    """The majority, and these kinds of the minority."""
    kept = np.array(
        [label == 0 or row.subtype in kinds for row, label in zip(of.rows, of.labels, strict=True)]
    )
    rows = tuple(row for row, keep in zip(of.rows, kept, strict=True) if keep)
    manifest = replace(of.manifest, rows=rows)
    return replace(of, manifest=manifest, rows=rows, labels=of.labels[kept], groups=of.groups[kept])


def _made(of: LabelledSet, seed: int, n_labels: int, novel: str, cache: Path) -> tuple[Problem, np.ndarray]:
    """Tables of a draw, and the kind of each test row."""
    draw = draw_of(of.labels, of.groups, n_labels, seed)
    [loaded] = load_backbones(of.config, {plan.backbone for plan in of.config.members}).values()
    problem = FewLabels.make(of, draw, n_labels, novel)
    _fill(loaded, problem)
    note(f"{problem.name}: fitted.")
    return scores_on(problem, loaded, cache), np.array([of.rows[i].subtype for i in draw.test])


def _fill(loaded: BackboneWithStore, problem: FewLabels) -> None:
    draw, rows = problem.draw, problem.of.rows
    needed = [rows[i] for i in np.concatenate([draw.majority, draw.candidates, draw.test])]
    loaded.fill(problem.prepared, needed, problem.config.decode, "cpu")


def _split(name: str, tables: Problem, kind_of_test: np.ndarray, novel: str) -> TriageProblem:
    is_novel = (kind_of_test == novel) & (tables.test.labels == 1)
    return TriageProblem(
        name, tables.draw, tables.oof, tables.test.rows(~is_novel), tables.test.rows(is_novel)
    )


def _kinds_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}-kinds.npz")


def _read(path: Path) -> Problem | None:
    """Tables that an earlier call left; a torn file is none."""
    try:
        tables = Problem.read(path)
        read_arrays(_kinds_file(path))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return tables
