"""How a data set was read: what users should know before they trust the counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reporting.terminal import note
from workflow.settings.config import RunConfig

_MOST_FOLDERS = 5
"""Folders that are named on the terminal; the JSON document names all."""


def reading_of(config: RunConfig) -> dict[str, Any]:
    """How the data set of a run was read, for the JSON document.

    Returns:
        ``reading``: sentences, such as how the columns of a list were understood. ``unused_images``: number
        of images in the tree that no class or split takes, by folder.

    Raises:
        DataError: the data set is missing or damaged.
    """
    layout, root = config.spec.layout, config.spec.find(config.data_dir)
    unused = layout.unused_images(config.spec, root) if config.owns_tree else {}
    # The run folders may lie below the data set, and hold pictures of our own.
    runs = config.options.runs.absolute()
    unused = {
        folder: count
        for folder, count in unused.items()
        if not Path(root, folder).absolute().is_relative_to(runs)
    }
    return {"reading": layout.reading_notes(config.spec, root), "unused_images": unused}


def print_reading(reading: dict[str, Any]) -> None:
    """Print what :func:`reading_of` returned."""
    for sentence in reading["reading"]:
        note(sentence)
    unused: dict[str, int] = reading["unused_images"]
    if not unused:
        return
    largest = sorted(unused, key=lambda folder: (-unused[folder], folder))
    shown = [f"{unused[folder]:,} in {folder}" for folder in largest[:_MOST_FOLDERS]]
    more = len(largest) - _MOST_FOLDERS
    if more > 0:
        shown.append(f"the others in {more} more folders")
    note(f"Images of the data set that are not used: {sum(unused.values()):,} ({', '.join(shown)}).")
