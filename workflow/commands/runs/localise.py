"""``localise``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.commands.options import works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(after_training="keeps")
def localise(options: RunOptions) -> Any:
    """Compare the exported map with masks on the test set: pixel AUROC and PRO."""
    from workflow.explaining.localise import localise

    return localise(options)
