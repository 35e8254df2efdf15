"""``versus``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workflow.commands.options import answers, failed_images


@answers(failed_images)
def versus(
    old: Annotated[Path, typer.Argument(help="The ONNX file in use.", show_default=False)],
    new: Annotated[Path, typer.Argument(help="The ONNX file that may take its place.", show_default=False)],
    images: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Folder of images or of one folder per class, or a list (path, label, kind, group).",
            show_default=False,
        ),
    ],
    golden: Annotated[
        Path | None,
        typer.Option("--golden", help="Folder or list of images that never train."),
    ] = None,
    changed: Annotated[
        Path | None,
        typer.Option(
            "--changed", help="Write the images whose decision or triage changed, .csv or .parquet."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder that keeps the scores of both files.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Worker processes (default: one per core).")
    ] = None,
) -> Any:
    """Compare two exported files on the same images: what would be decided otherwise, and which is right."""
    from workflow.versus.versus import versus as compare_files

    return compare_files(old, new, images, golden=golden, changed=changed, output=output, processes=processes)
