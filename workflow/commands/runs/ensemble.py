"""``ensemble``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.commands.options import works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(device=True, tracking=True, after_training="keeps")
def ensemble(options: RunOptions) -> Any:
    """Fuse the trained members into one calibrated model, measure it and export it."""
    from workflow.ensembling.ensemble import ensemble

    return ensemble(options)
