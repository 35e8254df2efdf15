"""``check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contracts.errors import ExitCode
from workflow.commands.options import works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


def _exit_code(document: Any) -> ExitCode:
    return ExitCode.OK if document["valid"] else ExitCode.DATA


@works_on_run(recipe=None, device=True, exit_code=_exit_code)
def check(
    options: RunOptions,
    output: Annotated[
        Path | None, typer.Option("--output", help="HTML page to write (default: RUNS/checks/DATASET.html).")
    ] = None,
    confirm_groups: Annotated[
        bool | None,
        typer.Option("--confirm-groups/--deny-groups", help="Accept or reject the guessed groups."),
    ] = None,
    show_leak: Annotated[
        bool,
        typer.Option("--show-leak", help="Measure the leakage: train on random and on grouped folds."),
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Write a spec with the accepted groups and the near duplicates."),
    ] = None,
) -> Any:
    """Find what is wrong with a data set before you train; exits with 3 if results would be invalid."""
    from workflow.checking.check import check

    return check(options, output, confirm_groups, show_leak, save)
