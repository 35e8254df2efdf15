"""Options that the benchmarks on score tables share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Cache = Annotated[
    Path, typer.Option("--cache", help="Directory for features, fits, score tables and figures.")
]
Sets = Annotated[
    str | None,
    typer.Option("--sets", help="Data sets as a,b,c; neu stands for all of neu:... (default: all)."),
]
Members = Annotated[
    str | None, typer.Option("--members", help="Member types as a,b,c (default: the benchmark's own).")
]
Make = Annotated[bool, typer.Option("--make/--no-make", help="Make score tables that are missing.")]
Page = Annotated[Path | None, typer.Option("--markdown", help="Also write the page to this file.")]
Draws = Annotated[int, typer.Option("--draws", min=1, help="Draws of each data set.")]
