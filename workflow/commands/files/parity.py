"""``parity``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.commands.options import works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions


@works_on_run(after_training="keeps")
def parity(options: RunOptions) -> Any:
    """Compare every exported file of a run, in every runtime, with the trained system."""
    from workflow.exporting.parity import parity

    return parity(options)
