"""The command ``python -m benchmarks watch``; the list of commands has reached its length."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from benchmarks.few_labels.options import Page
from workflow.commands.options import DEFAULT_RUNS, Data, Runs


def watch(
    sets: Annotated[
        str | None, typer.Option("--sets", help="Data sets as a,b,c (default: elpv,gender_B,neu).")
    ] = None,
    batches: Annotated[int, typer.Option("--batches", min=2, help="Batches of each make.")] = 200,
    markdown: Page = None,
    data: Data = None,
    runs: Runs = DEFAULT_RUNS,
) -> Any:
    """Simulate batches of real images: drift that is found, and the share of the minority."""
    from benchmarks.watch.run import SETS, WatchBench, bench_watch

    names = [name.strip() for name in (sets or "").split(",") if name.strip()]
    return bench_watch(WatchBench(data, runs, names or SETS, batches, markdown))
