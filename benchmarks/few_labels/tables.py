"""Score tables of problems: made of cached fits, kept as files that a rule of fusion is judged on."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.few_labels.draws import draw_of, usable_counts
from benchmarks.few_labels.fits import FewLabels, scores_of
from benchmarks.few_labels.sets import LabelledSet, SetPlan, load_set
from contracts.files import Arrays, read_arrays, write_arrays
from contracts.scores import ScoreColumn, ScoreTable
from reporting.terminal import note
from workflow.run.copies.views import views_to_fit
from workflow.run.features import BackboneWithStore, load_backbones
from workflow.run.fits import can_learn
from workflow.settings.registry import entry_of

COUNTS = (0, 1, 2, 5, 10, 12, 20, 30, 50, 90)
"""Numbers of labels of all benchmarks, which share draws and one-class fits."""


@dataclass(frozen=True)
class Problem:
    """A problem's scores.

    Attributes:
        data_set: name of the set.
        draw: seed of the draw.
        n_labels: minority images trained on.
        oof: out-of-fold table of the training rows.
        test: table of the rows to be judged on.
        left_out: member → why it has no columns.
    """

    data_set: str
    draw: int
    n_labels: int
    oof: ScoreTable
    test: ScoreTable
    left_out: dict[str, str]

    @property
    def name(self) -> str:
        """As its file is named."""
        return f"{self.data_set.replace(':', '-')}-d{self.draw}-n{self.n_labels}"

    def write(self, path: Path) -> None:
        """Write whole or not at all."""
        arrays = {**_arrays("oof", self.oof), **_arrays("test", self.test)}
        meta: dict[str, Any] = {
            "data_set": self.data_set,
            "draw": self.draw,
            "n_labels": self.n_labels,
            "left_out": self.left_out,
            "columns": [[c.member, c.kind, c.meaning] for c in self.oof.columns],
            "class_names": list(self.oof.class_names),
            "manifest_digest": self.oof.manifest_digest,
        }
        write_arrays(path, arrays, meta)

    @classmethod
    def read(cls, path: Path) -> Problem:
        """Read what :meth:`write` wrote."""
        arrays, meta = read_arrays(path)
        return cls(
            meta["data_set"],
            meta["draw"],
            meta["n_labels"],
            _table("oof", arrays, meta),
            _table("test", arrays, meta),
            meta["left_out"],
        )


def _arrays(prefix: str, table: ScoreTable) -> Arrays:
    return {
        f"{prefix}_{name}": getattr(table, name)
        for name in ("row_ids", "labels", "fold_of_row", "groups", "scores")
    }


def _table(prefix: str, arrays: Arrays, meta: dict[str, Any]) -> ScoreTable:
    return ScoreTable(
        **{
            name: arrays[f"{prefix}_{name}"]
            for name in ("row_ids", "labels", "fold_of_row", "groups", "scores")
        },
        columns=tuple(ScoreColumn(*column) for column in meta["columns"]),
        class_names=tuple(meta["class_names"]),
        manifest_digest=meta["manifest_digest"],
    )


def read_problems(folder: Path, counts: Sequence[int] = ()) -> list[Problem]:
    """All problems whose tables lie in a folder, by name; a torn file is none.

    Args:
        folder: of the tables.
        counts: numbers of labels to take; all where none is given.
    """
    problems = []
    for path in sorted(folder.glob("*.npz")):
        try:
            problem = Problem.read(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            continue
        if not counts or problem.n_labels in counts:
            problems.append(problem)
    return problems


def make_problems(
    plans: Sequence[SetPlan],
    data: Path | None,
    cache: Path,
    folder: Path,
    counts: Sequence[int],
    draws: int,
    members: Sequence[str],
) -> Iterator[Problem]:
    """Make the problems of some sets, draw by draw; goes on where an earlier call stopped.

    Args:
        plans: which sets.
        data: directory that holds the data sets.
        cache: for features and fits.
        folder: of the tables.
        counts: numbers of labels; those that leave too few images to judge on are left out.
        draws: of each set.
        members: member types; the calibrated baseline is one of them.
    """
    sets = [found for plan in plans if (found := load_set(plan, data, cache, members)) is not None]
    # All sets' first draws before any second, so that an interrupted call leaves a whole picture.
    for seed in range(draws):
        for of in sets:
            yield from _problems_of(of, seed, cache, folder, counts)


def _problems_of(
    of: LabelledSet, seed: int, cache: Path, folder: Path, counts: Sequence[int]
) -> Iterator[Problem]:
    n_minority = int((of.labels == 1).sum())
    draw = draw_of(of.labels, of.groups, max(usable_counts(COUNTS, n_minority)), seed)
    # All members of the benchmark read one backbone.
    [loaded] = load_backbones(of.config, {plan.backbone for plan in of.config.members}).values()
    needed = np.concatenate([draw.majority, draw.candidates, draw.test])
    problems = [FewLabels.make(of, draw, n) for n in usable_counts(counts, n_minority)]
    for problem in problems:
        views = views_to_fit(problem.prepared, of.config.members)
        loaded.fill(problem.prepared, [of.rows[i] for i in needed], of.config.decode, "cpu", views.pairs)
        made = scores_on(problem, loaded, cache)
        made.write(folder / f"{made.name}.npz")
        yield made


def scores_on(problem: FewLabels, loaded: BackboneWithStore, cache: Path) -> Problem:
    """Score tables of a problem, from fits that are cached or made now."""
    columns, oof, test, left_out = [], [], [], {}
    for plan in problem.config.members:
        kind = entry_of(plan.type).kind
        if not can_learn(plan, problem.prepared):
            continue
        scores = scores_of(problem, plan, loaded, cache / "fits", note)
        if scores.collapsed:
            left_out[plan.name] = scores.collapsed
            continue
        columns.append(ScoreColumn(plan.name, kind, "logit" if kind == "supervised" else "anomaly_score"))
        oof.append(scores.out_of_fold)
        test.append(scores.test)
    of, draw = problem.of, problem.draw
    _, group_of_row = np.unique(of.groups, return_inverse=True)

    def table(rows: Any, folds: Any, parts: list[Any]) -> ScoreTable:
        return ScoreTable(
            np.array([of.rows[i].path for i in rows]),
            of.labels[rows],
            np.asarray(folds, dtype=np.int64),
            group_of_row[rows].astype(np.int64),
            tuple(columns),
            np.concatenate(parts, axis=1),
            of.manifest.class_names,
            of.manifest.digest,
        )

    return Problem(
        of.name,
        draw.seed,
        problem.n_labels,
        table(problem.train, problem.fold_of_row.copy(), oof),
        table(draw.test, np.full(len(draw.test), -1), test),
        left_out,
    )
