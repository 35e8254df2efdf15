"""``ensemble``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflow.commands.options import works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(device=True, tracking=True, after_training="keeps")
def ensemble(
    options: RunOptions,
    false_alarms: Annotated[
        float | None,
        typer.Option(
            "--false-alarms",
            help="Share of normal images that may be decided otherwise, such as 0.01. It stands for "
            "-o 'threshold=false_alarms<=0.01'.",
        ),
    ] = None,
) -> Any:
    """Fuse the trained members into one calibrated model, measure it and export it."""
    import dataclasses

    from workflow.ensembling.ensemble import ensemble

    if false_alarms is not None:
        # As an override, so that the commands which messages propose name it too.
        rule = f"threshold=false_alarms<={false_alarms:g}"
        options = dataclasses.replace(options, overrides=(*options.overrides, rule))
    return ensemble(options)
