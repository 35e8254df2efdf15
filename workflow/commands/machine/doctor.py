"""``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from contracts.errors import ExitCode
from workflow.commands.options import Data, answers


def _exit_code(report: Any) -> ExitCode:
    return ExitCode.OK if report["healthy"] else ExitCode.MODEL


@answers(_exit_code)
def doctor(
    data: Data = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="An exported file: check that this machine computes it as measured."),
    ] = None,
) -> Any:
    """Report what this machine has, what is missing, and what to do about it."""
    from workflow.inventory.doctor import doctor

    return doctor(data, model)
