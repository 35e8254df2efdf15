"""``members``."""

from __future__ import annotations

from typing import Any

from workflow.commands.options import answers


@answers()
def members() -> Any:
    """List the member types that recipes can use."""
    from workflow.inventory.members import list_members

    return list_members()
