"""``audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflow.commands.options import works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(after_training="keeps")
def audit(
    options: RunOptions,
    share: Annotated[
        float, typer.Option("--share", min=0.0, max=1.0, help="Share of the training images to list.")
    ] = 0.05,
    confirm: Annotated[
        Path | None,
        typer.Option(
            "--confirm", help="Take answers: a list with the columns path and label, or those of the page."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="HTML page to write (default: RUNS/corrections/DATASET.html)."),
    ] = None,
) -> Any:
    """List the training images whose label the models contradict most, and take corrections."""
    from workflow.auditing.audit import audit

    return audit(options, share, output, confirm)
