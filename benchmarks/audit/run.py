"""From data sets with flipped labels to the share that each ranking finds, and the page."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.audit.page import Found, as_markdown, found_share
from benchmarks.audit.problems import Flipped, make_flipped
from benchmarks.audit.rankings import AUDIT, rankings_of
from benchmarks.few_labels.sets import sets_named
from contracts.errors import ModelError
from contracts.files import write_text
from reporting.terminal import console, note

SETS = ("elpv", "gender", "blood_cells", "neu")
MEMBERS = ("cnn", "cnn_weighted", "subspace", "patch_head")
FLIPPED = (0.01, 0.03, 0.05)
LISTED = (0.02, 0.05)
"""Shares of the training images that are looked at."""


@dataclass(frozen=True)
class AuditBench:
    """What is asked for.

    Attributes:
        data: directory that holds the data sets.
        cache: for features and fits.
        sets: names.
        draws: of each set.
        members: member types; the calibrated baseline is one of them.
        markdown: the page to write, or None.
    """

    data: Path | None
    cache: Path
    sets: Sequence[str] = SETS
    draws: int = 1
    members: Sequence[str] = MEMBERS
    markdown: Path | None = None


def bench_audit(bench: AuditBench) -> dict[str, Any]:
    """Flip labels and count how many are among the first of the list; the figures as a document.

    Raises:
        UsageError: no such set.
        ModelError: none of the sets is there.
    """
    found: list[Found] = []
    plans = sets_named(bench.sets)
    for problem in make_flipped(plans, bench.data, bench.cache, FLIPPED, bench.draws, bench.members):
        found += _found(problem)
        note(f"{problem.data_set}, draw {problem.draw}, {problem.share:.0%} flipped: ranked.")
    if not found:
        raise ModelError("label audit: no data set to judge on. Name the folder that holds them with --data.")
    _print(found)
    if bench.markdown is not None:
        write_text(bench.markdown, as_markdown(found, bench.members, _command(bench)))
        note(f"{bench.markdown} written.")
    return {"found": [vars(each) for each in found]}


def _found(problem: Flipped) -> list[Found]:
    """One entry per ranking and length of the list."""
    wrong, hidden = problem.is_wrong, problem.is_wrong & (problem.oof.labels == 0)
    result = []
    for name, suspicion in rankings_of(problem).items():
        order = np.argsort(-suspicion, kind="stable")
        for listed in LISTED:
            first = order[: math.ceil(listed * len(order))]
            result.append(
                Found(
                    problem.data_set,
                    problem.draw,
                    problem.share,
                    name,
                    listed,
                    len(order),
                    len(first),
                    int(wrong.sum()),
                    int(wrong[first].sum()),
                    int(hidden.sum()),
                    int(hidden[first].sum()),
                )
            )
    return result


def _print(found: Sequence[Found]) -> None:
    table = Table(title="Share of the flipped labels among the first of the list, by audit")
    for heading in ("flipped", *(f"first {listed:.0%}" for listed in LISTED)):
        table.add_column(heading, justify="right")
    for share in FLIPPED:
        mine = [each for each in found if each.ranking == AUDIT and each.share == share]
        cells = [f"{found_share([e for e in mine if e.listed == listed]):.0%}" for listed in LISTED]
        table.add_row(f"{share:.0%}", *cells)
    console.print(table)


def _command(bench: AuditBench) -> str:
    words = ["python", "-m", "benchmarks", "label-audit"]
    words += ["--sets", ",".join(bench.sets)] if tuple(bench.sets) != SETS else []
    words += ["--members", ",".join(bench.members)] if tuple(bench.members) != MEMBERS else []
    words += ["--draws", str(bench.draws)] if bench.draws != 1 else []
    return shlex.join([*words, "--data", "DATA"])
