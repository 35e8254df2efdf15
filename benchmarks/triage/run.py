"""From data sets to the page; score tables that an earlier call left are read."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.triage.judge import judge
from benchmarks.triage.page import document_of, write_page
from benchmarks.triage.problems import MEMBERS, N_LABELS, make_problems
from contracts.errors import ModelError, UsageError, nearest_match
from reporting.terminal import note

DRAWS = 20


@dataclass(frozen=True)
class TriageBench:
    """What is asked for.

    Attributes:
        data: directory that holds the data sets.
        cache: for features, fits and tables.
        sets: names; all where none is given.
        draws: of each set.
        members: member types; two that are fitted in seconds where none is given.
        markdown: the page to write, or None.
    """

    data: Path | None
    cache: Path
    sets: Sequence[str] = ()
    draws: int = DRAWS
    members: Sequence[str] = ()
    markdown: Path | None = None


def bench_triage(bench: TriageBench) -> dict[str, Any]:
    """Triage the test images of all draws; the figures as a document.

    Raises:
        UsageError: no such set.
        ModelError: none of the sets is there.
    """
    for name in bench.sets:
        if name not in N_LABELS:
            raise UsageError(
                f"--sets {name}: not known. Known are {', '.join(N_LABELS)}.{nearest_match(name, N_LABELS)}"
            )
    sets, members = tuple(bench.sets) or tuple(N_LABELS), tuple(bench.members) or MEMBERS
    judged = []
    for problem in make_problems(sets, bench.data, bench.cache, bench.draws, members):
        judged.append(judge(problem))
        note(f"{problem.data_set}, draw {problem.draw}: judged.")
    if not judged:
        raise ModelError("triage: no data set to judge on. Name the folder that holds them with --data.")
    judged.sort(key=lambda each: (sets.index(each.data_set), each.draw))
    if bench.markdown is not None:
        write_page(judged, _command(bench), members, bench.markdown)
        note(f"{bench.markdown} written.")
    return document_of(judged)


def _command(bench: TriageBench) -> str:
    words = ["python", "-m", "benchmarks", "triage"]
    words += ["--sets", ",".join(bench.sets)] if bench.sets else []
    words += ["--draws", str(bench.draws)] if bench.draws != DRAWS else []
    words += ["--members", ",".join(bench.members)] if bench.members else []
    return shlex.join([*words, "--data", "DATA"])
