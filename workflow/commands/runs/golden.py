"""``golden``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflow.commands.options import failed_images, works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(after_training="keeps", exit_code=failed_images)
def golden(
    options: RunOptions,
    images: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of one folder per class, or a list with a column label.", show_default=False
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Give the golden set up.")] = False,
) -> Any:
    """Put labelled images aside that never train, so that files are compared on the same ones."""
    from workflow.updating.golden import golden as keep_golden

    return keep_golden(options, images, remove=remove)
