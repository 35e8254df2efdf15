"""``datasets``: what is known by name, and what of it lies on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from contracts.errors import DataError
from imagedata.listing import find_root, list_images
from imagedata.resolve import catalogue_names, resolve_dataset
from imagedata.spec import DataSpec
from workflow.console import console, note
from workflow.documents import validated


def list_datasets(data_dir: Path | None) -> list[dict[str, Any]]:
    """Print the catalogue with counts of the sets that are found.

    Args:
        data_dir: where data sets lie; those that come with a package are found without it.

    Returns:
        One ``{name, title, minority, found, images, source, licence}`` a set; ``images`` is class → files.
    """
    listed: list[dict[str, Any]] = []
    for name in catalogue_names():
        resolved = resolve_dataset(name)
        spec = validated(DataSpec, resolved.document, resolved.where)
        images: dict[str, int] = {}
        try:
            files = list_images(spec, find_root(spec, data_dir))
            images = {label: sum(f.label == label for f in files) for label in spec.class_names}
        except DataError:
            pass  # not on this machine, which the table says
        listed.append(
            {
                "name": name,
                "title": spec.title,
                "minority": spec.minority,
                "found": bool(images),
                "images": images,
                "source": spec.source,
                "licence": spec.licence,
            }
        )
    table = Table(title="Data sets by name")
    for heading in ("name", "what it is", "on this machine"):
        table.add_column(heading)
    for entry in listed:
        counts = ", ".join(f"{label} {count}" for label, count in entry["images"].items())
        if len(entry["images"]) > 2:
            counts = f"{sum(entry['images'].values())} images of {len(entry['images'])} classes"
        table.add_row(entry["name"], entry["title"], counts or f"no; get it from {entry['source']}")
    console.print(table)
    if data_dir is None:
        note(
            "Say where your data sets lie with --data DIR or OUTNUMBERED_DATA. "
            "A folder with a folder per class works as a data set, too."
        )
    return listed
