"""``datasets``: the data sets known by name, and which of them are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from contracts.errors import DataError, UsageError
from imagedata.resolve import catalogue_names, family_of, own_names, resolve_dataset
from imagedata.spec import DataSpec
from reporting.terminal import console, note
from workflow.settings.documents import validated


def list_datasets(data_dir: Path | None) -> list[dict[str, Any]]:
    """Print the catalogue, and what the user added, with counts of the sets that are found.

    Args:
        data_dir: where data sets lie; those that come with a package are found without it.

    Returns:
        One ``{name, title, minority, own, found, images, per_minority, rule, why, source, licence, tree}`` a
        set: ``images`` is class → files, ``per_minority`` the other classes' files for each of the minority,
        ``rule`` the imbalance that training makes of them, and ``why`` the reason where it is not found.
    """
    listed = [_entry(name, data_dir, name not in catalogue_names()) for name in _names()]
    _print_table(listed)
    if data_dir is None:
        note(
            "Name the folder of your data sets with --data DIR or OUTNUMBERED_DATA. A folder with one folder "
            "per class, or a list of images, is a data set, too; datasets add gives it a name."
        )
    return listed


def _names() -> list[str]:
    return [*catalogue_names(), *(name for name in own_names() if name not in catalogue_names())]


def _entry(name: str, data_dir: Path | None, own: bool) -> dict[str, Any]:
    images: dict[str, int] = {}
    why = ""
    try:
        resolved = resolve_dataset(name)
        spec = validated(DataSpec, resolved.document, resolved.where)
    except UsageError as error:  # a file of the user's own that was edited
        blank = dict.fromkeys(("title", "minority", "source", "licence"), "")
        nothing = {"found": False, "images": {}, "per_minority": None, "rule": None, "tree": []}
        return {"name": name, "own": own, "why": str(error), **nothing, **blank}
    try:
        # To list what is here must not fetch what is not.
        root = spec.find(data_dir or resolved.data_dir, fetch=False)
        files = spec.list_images(root)
        images = {label: sum(file.label == label for file in files) for label in spec.class_names}
    except DataError as error:
        why = str(error).splitlines()[0]
    others = sum(count for label, count in images.items() if label != spec.minority)
    counts = ", ".join(f"{label} {count}" for label, count in spec.train_counts.items())
    return {
        "name": name,
        "title": spec.title,
        "minority": spec.minority,
        "own": own,
        "found": bool(images),
        "images": images,
        "per_minority": others / images[spec.minority] if images and images[spec.minority] else None,
        "rule": spec.imbalance or counts or None,
        "why": why,
        "source": spec.source,
        "licence": spec.licence,
        "tree": spec.expected_tree().splitlines(),
    }


def _print_table(listed: list[dict[str, Any]]) -> None:
    table = Table(title="Data sets by name")
    for heading in ("name", "what it is", "on this machine", "1 of the minority to"):
        table.add_column(heading, overflow="fold")
    shown: set[str] = set()
    for entry in listed:
        name, title = entry["name"], entry["title"]
        family = family_of(name)
        if not entry["found"] and family != name:
            # Fifteen lines that say the same of what is not there would bury what is.
            if family in shown:
                continue
            shown.add(family)
            name, title = family, title.replace(name.removeprefix(family.partition("<")[0]), "a category")
        counts = ", ".join(f"{label} {count}" for label, count in entry["images"].items())
        if len(entry["images"]) > 2:
            counts = f"{sum(entry['images'].values())} images of {len(entry['images'])} classes"
        there = counts or (f"no; get it from {entry['source']}" if entry["source"] else f"no; {entry['why']}")
        ratio = f"{entry['per_minority']:.3g}" if entry["per_minority"] is not None else ""
        if ratio and entry["rule"] and ":" in entry["rule"]:
            ratio += f", made {entry['rule']} in training"
        table.add_row(*(escape(cell) for cell in (name, title, there, ratio)))
    console.print(table)
