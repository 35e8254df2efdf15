"""``doctor``."""

from __future__ import annotations

from typing import Any

from contracts.errors import ExitCode
from workflow.commands.options import Data, answers


def _exit_code(report: Any) -> ExitCode:
    return ExitCode.OK if report["healthy"] else ExitCode.MODEL


@answers(_exit_code)
def doctor(data: Data = None) -> Any:
    """Report what this machine has, what is missing, and what to do about it."""
    from workflow.inventory.doctor import doctor

    return doctor(data)
