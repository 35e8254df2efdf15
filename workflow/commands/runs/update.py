"""``update``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflow.commands.options import failed_images, works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(device=True, tracking=True, after_training="keeps", exit_code=failed_images)
def update(
    options: RunOptions,
    normal: Annotated[
        Path | None, typer.Option("--normal", help="Folder of false alarms: images flagged but normal.")
    ] = None,
    missed: Annotated[
        Path | None, typer.Option("--missed", help="Folder of missed images of the minority class.")
    ] = None,
) -> Any:
    """Add corrected images to a finished run and refit it, in seconds where members read cached features."""
    from workflow.updating.update import update

    return update(options, normal, missed)
