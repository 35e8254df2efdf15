"""``train-all``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.commands.options import DryRun, works_on_run
from workflow.commands.runs.train import train_or_plan

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(device=True, jobs=True, ray=True, tracking=True)
def train_all(options: RunOptions, dry_run: DryRun = False) -> Any:
    """Train every member of the recipe on every fold; continues where it was interrupted."""
    return train_or_plan(options, (), dry_run)
