"""From data sets to the page, going on where an earlier call stopped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.few_labels.sets import KIND_PLANS, quick_members, sets_named
from benchmarks.kinds.judge import WAYS, Judged, judge
from benchmarks.kinds.page import Verdicts, document_of, write_page
from benchmarks.kinds.problems import make_problems
from contracts.errors import ModelError
from reporting.terminal import console, note

COUNTS = (30,)


@dataclass(frozen=True)
class KindsBench:
    """What is asked for.

    Attributes:
        data: directory that holds the data sets.
        cache: for features and fits.
        sets: names; all where none is given.
        draws: of each set.
        counts: numbers of labels over all kinds.
        members: member types; those of recipe quick where none is given.
        markdown: the page to write, or None.
    """

    data: Path | None
    cache: Path
    sets: Sequence[str] = ()
    draws: int = 1
    counts: Sequence[int] = COUNTS
    members: Sequence[str] = ()
    markdown: Path | None = None


def bench_kinds(bench: KindsBench) -> dict[str, Any]:
    """Judge every way to fuse on kinds seen and never seen; the figures as a document.

    Raises:
        UsageError: no such set.
        ModelError: none of the sets is there.
    """
    plans, members = sets_named(bench.sets, KIND_PLANS), list(bench.members) or quick_members()
    judged: list[Judged] = []
    for problem in make_problems(plans, bench.data, bench.cache, bench.counts, bench.draws, members):
        judged += judge(problem)
        of = problem.seen.problem
        note(f"{of.data_set}, draw {of.draw}, {of.n_labels} labels: judged.")
    if not judged:
        raise ModelError("kinds: no data set to judge on. Name the folder that holds them with --data.")
    verdicts = Verdicts(judged, members, bench.counts)
    _print(verdicts)
    if bench.markdown is not None:
        write_page(verdicts, _command(bench), bench.markdown)
        note(f"{bench.markdown} written.")
    return document_of(verdicts)


def _print(verdicts: Verdicts) -> None:
    table = Table(title=f"{len(verdicts.judged)} kinds, AUROC and recall")
    for heading in ("", "seen", "never seen", "recall, seen", "recall, never seen"):
        table.add_column(heading, justify="right" if heading else "left")
    for way in WAYS:
        cells = [
            f"{verdicts.values(way, figure, how).mean():.4f}"
            for figure in ("auroc", "recall")
            for how in ("seen", "unseen")
        ]
        table.add_row(way, *cells)
    console.print(table)


def _command(bench: KindsBench) -> str:
    words = ["python", "-m", "benchmarks", "kinds"]
    words += ["--draws", str(bench.draws)] if bench.draws != 1 else []
    words += ["--sets", ",".join(bench.sets)] if bench.sets else []
    words += ["--counts", ",".join(map(str, bench.counts))] if tuple(bench.counts) != COUNTS else []
    return shlex.join([*words, "--data", "DATA"])
