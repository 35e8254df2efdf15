"""From finished runs to the page, going on where an earlier call stopped."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.watch.page import write_page
from benchmarks.watch.problems import Problem, make_problem
from benchmarks.watch.simulate import Found, simulate
from contracts.files import read_json, write_json
from reporting.terminal import console, note

_VERSION = 4
"""Raised when the watch or the batches change, so that kept ones are not taken for new ones."""

SETS = ("elpv", "gender_B", "neu")


@dataclass(frozen=True)
class WatchBench:
    """What is asked for.

    Attributes:
        data: directory that holds the data sets.
        runs: directory of runs; what is missing is trained there with recipe quick.
        sets: ``neu``, or data sets of the catalogue with a test set.
        batches: of each make; a quarter as many of changed images.
        markdown: the page to write, or None.
    """

    data: Path | None
    runs: Path
    sets: Sequence[str] = SETS
    batches: int = 200
    markdown: Path | None = None


def bench_watch(bench: WatchBench) -> dict[str, Any]:
    """Simulate batches of real images; what the watch said of them as a document.

    Raises:
        UsageError, DataError, ModelError: a run cannot be made.
    """
    found: list[Found] = []
    for name in bench.sets:
        problem = make_problem(name, bench.data, bench.runs)
        for each in _found(problem, bench.batches):
            found.append(each)
            console.print(
                f"{name}, {each.what}, {each.images} images, share {each.share:g}: {each.alarms} alarms, "
                f"{each.abstained} without a figure, "
                f"{each.covered} of {each.batches - each.abstained} covered",
                highlight=False,
            )
    if bench.markdown is not None:
        write_page(found, _command(bench), bench.markdown)
        note(f"{bench.markdown} written.")
    return {"found": [each.to_json() for each in found]}


def _found(problem: Problem, batches: int) -> Iterator[Found]:
    """All batches of a problem, from the cache where it is there."""
    kept = problem.cache / f"batches-{batches}-{_VERSION}.json"
    if not kept.exists():
        found = []
        for each in simulate(problem, batches):
            found.append(each.to_json())
            yield each
        write_json(kept, found)
        return
    yield from (Found(**each) for each in read_json(kept))


def _command(bench: WatchBench) -> str:
    words = ["python", "-m", "benchmarks", "watch", "--sets", ",".join(bench.sets)]
    words += ["--batches", str(bench.batches)] if bench.batches != 200 else []
    words += ["--data", "DIR"] if bench.data is not None else []
    return shlex.join(words)
