"""``explore``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflow.commands.options import works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(device=True)
def explore(
    options: RunOptions,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder for page and pictures (default: RUNS/explored/DATASET)."),
    ] = None,
    with_map: Annotated[
        bool, typer.Option("--map/--no-map", help="Draw the embedding map, which runs the backbone.")
    ] = True,
    slides: Annotated[int, typer.Option("--slides", min=0, help="Maximum number of slides to draw.")] = 8,
) -> Any:
    """Show a data set on one page: counts, sizes, contact sheets, an embedding map, slides of patches."""
    from workflow.exploring.explore import explore

    return explore(options, output, with_map, slides)
