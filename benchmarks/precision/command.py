"""The command ``python -m benchmarks precision``; the list of commands has reached its length."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workflow.commands.options import DEFAULT_RUNS, Data, Runs


def precision(
    sets: Annotated[str | None, typer.Option("--sets", help="Data sets as a,b,c.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("-o", "--override", help="KEY=VALUE, as of train-all.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Also write the page to this file.")
    ] = None,
    data: Data = None,
    runs: Runs = DEFAULT_RUNS,
) -> Any:
    """Train ensembles on int8 and on float32 features, and compare them on the same images."""
    from benchmarks.precision.run import SETS, bench_precision
    from workflow.settings.config import RunOptions

    given = tuple(override or ())
    names = [name.strip() for name in (sets or ",".join(SETS)).split(",") if name.strip()]
    options = [RunOptions(name, data=data, runs=runs, overrides=given, tracking=False) for name in names]
    return bench_precision(options, markdown)
