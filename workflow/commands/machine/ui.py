"""``ui``."""

from __future__ import annotations

from typing import Annotated

import typer

from workflow.commands.options import DEFAULT_RUNS, Runs


def ui(
    runs: Runs = DEFAULT_RUNS,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Open MLflow's pages on the tracked runs, or show how to."""
    from workflow.tracking.ui import ui

    ui(runs, port)
