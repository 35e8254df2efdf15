"""``inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workflow.commands.options import answers


@answers()
def inspect(model: Annotated[Path, typer.Argument(help="An exported ONNX file.", show_default=False)]) -> Any:
    """Show what an exported file holds: its members, what each costs, and what the file promises."""
    from workflow.exporting.inspect_model import inspect_model

    return inspect_model(model)
