"""``explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflow.commands.options import failed_images, works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(after_training="keeps", exit_code=failed_images)
def explain(
    options: RunOptions,
    images: Annotated[
        list[Path] | None, typer.Argument(help="Images to explain.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder for the pictures (default: explanations in the run folder)."),
    ] = None,
) -> Any:
    """Show why images got their probability: map, members' shares, nearest normal patches."""
    from workflow.explaining.explain import explain

    return explain(options, list(images or ()), output)
