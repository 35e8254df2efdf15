"""``members``: every member type by name, and what it is."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from contracts.errors import ModelError
from oneclass.from_anomalib.catalogue import PREFIX, image_models
from reporting.terminal import console, note
from workflow.settings.registry import MEMBERS


def list_members() -> list[dict[str, Any]]:
    """Print the member types.

    Returns:
        One ``{name, kind, summary, defaults}`` a type.
    """
    table = Table(title="Members by type")
    for heading in ("type", "kind", "what it is"):
        table.add_column(heading)
    for name, entry in MEMBERS.items():
        table.add_row(name, entry.kind, entry.summary)
    console.print(table)
    try:
        names = ", ".join(image_models())
        note(f"Beside these {PREFIX}NAME, any image model of anomalib as a one-class member: {names}.")
    except ModelError as error:
        note(str(error))
    note("A recipe's members are of these types; settings go by -o members.NAME.KEY=VALUE.")
    return [
        {"name": name, "kind": entry.kind, "summary": entry.summary, "defaults": entry.defaults}
        for name, entry in MEMBERS.items()
    ]
