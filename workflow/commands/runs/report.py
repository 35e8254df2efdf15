"""``report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflow.commands.options import works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(recipe="losses", after_training="keeps")
def report(
    options: RunOptions,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write (default: report.html in the run folder).")
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Show images of the data set.")
    ] = True,
) -> Any:
    """Write a compared run as one HTML page: tables, curves, pictures, facts about the data."""
    from workflow.pages.report import report

    return report(options, output, pictures)
