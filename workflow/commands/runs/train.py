"""``train``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflow.commands.options import DryRun, works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(device=True, jobs=True, ray=True, tracking=True)
def train(
    options: RunOptions,
    member: Annotated[str, typer.Argument(help="A member of the recipe.", show_default=False)],
    dry_run: DryRun = False,
) -> Any:
    """Train one member of the recipe."""
    return train_or_plan(options, (member,), dry_run)


def train_or_plan(options: RunOptions, only: tuple[str, ...], dry_run: bool) -> Any:
    """Train the members named, or all if none is, or only say what that would take."""
    if dry_run:
        from workflow.training.dry_run import dry_run as plan

        return plan(options, only)
    from reporting.terminal import note
    from workflow.training.train import train_all

    summary = train_all(options, only)
    if not only:
        # Here and not there: whoever calls train_all on the way to an ensemble needs no advice.
        note(f"Next: {options.command('ensemble')}")
    return summary
