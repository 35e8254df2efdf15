"""``monitor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workflow.commands.options import answers


@answers()
def monitor(
    scores: Annotated[
        list[Path],
        typer.Argument(help="Folders that score wrote, or folders of such folders.", show_default=False),
    ],
    answered: Annotated[
        Path | None,
        typer.Option(
            "--answers", help="Table of true labels (CSV or parquet): label, and path or probability."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="The page.")] = Path("monitor.html"),
) -> Any:
    """Compare what was scored over days with training: drift, share of the minority, calibration."""
    from workflow.monitoring.monitor import monitor as watch_over

    return watch_over(scores, output, answered)
