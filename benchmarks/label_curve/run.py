"""From data sets to the page, going on where an earlier call stopped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.few_labels.sets import quick_members, sets_named
from benchmarks.few_labels.tables import make_problems, read_problems
from benchmarks.label_curve.measure import measure
from benchmarks.label_curve.page import write_page
from benchmarks.label_curve.summary import FIGURES, WAYS, Curves, coverage_of, validity_of
from contracts.errors import ModelError
from reporting.terminal import note, progress_bar

COUNTS = (0, 1, 2, 5, 10, 20, 50)
_TABLES = "curve-tables"
SETS = ("elpv", "screws_small", "neu", "gender", "covid")


@dataclass(frozen=True)
class LabelCurveBench:
    """What is asked for.

    Attributes:
        data: directory that holds the data sets.
        cache: for features, fits, tables and figures.
        sets: names.
        counts: numbers of labels.
        draws: of each set.
        members: member types; those of recipe quick where none is given.
        make: whether to make tables that are missing.
        markdown: the page to write, or None.
    """

    data: Path | None
    cache: Path
    sets: Sequence[str] = SETS
    counts: Sequence[int] = COUNTS
    draws: int = 5
    members: Sequence[str] = ()
    make: bool = True
    markdown: Path | None = None


def bench_label_curve(bench: LabelCurveBench) -> dict[str, Any]:
    """Measure the curves; their figures as a document.

    Raises:
        UsageError: no such set.
        ModelError: there are no tables, and none may be made.
    """
    plans = sets_named(bench.sets)
    if bench.make:
        members = bench.members or quick_members()
        made = make_problems(
            plans, bench.data, bench.cache, bench.cache / _TABLES, bench.counts, bench.draws, members
        )
        for problem in made:
            note(f"{problem.data_set}, draw {problem.draw}, {problem.n_labels} labels: tables are there.")
    wanted = [plan.name for plan in plans]
    problems = [
        problem
        for problem in read_problems(bench.cache / _TABLES, bench.counts)
        if problem.data_set in wanted and problem.draw < bench.draws
    ]
    if not problems:
        raise ModelError(f"{bench.cache}: no score tables there. Leave out --no-make, and name --data.")
    problems.sort(key=lambda problem: (wanted.index(problem.data_set), problem.n_labels, problem.draw))
    with progress_bar("measuring", len(problems)) as bar:
        curves = Curves(measure(problems, bench.cache / "curve-figures", bar.advance))
    if bench.markdown is not None:
        write_page(curves, _command(bench), bench.markdown)
        note(f"{bench.markdown} written.")
    return {
        "curves": [
            {"data_set": name, "n_labels": n_labels, **_values(curves, name, n_labels)}
            for name in curves.data_sets
            for n_labels in curves.counts(name)
        ],
        "p_normal": [vars(row) for row in validity_of(curves.documents)],
        "estimate": [vars(row) for row in coverage_of(curves.documents, "auroc")],
    }


def _values(curves: Curves, name: str, n_labels: int) -> dict[str, Any]:
    """Figure → way → its value in each draw; None where the way could not be fitted."""
    return {
        figure: {
            way: [None if np.isnan(v) else v for v in curves.values(name, n_labels, way, figure).tolist()]
            for way in WAYS
        }
        for figure in FIGURES
    }


def _command(bench: LabelCurveBench) -> str:
    words = ["python", "-m", "benchmarks", "label-curve", "--draws", str(bench.draws)]
    words += ["--sets", ",".join(bench.sets)] if tuple(bench.sets) != SETS else []
    return shlex.join([*words, "--data", "DATA"])
