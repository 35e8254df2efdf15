"""The new file against the one in use, on everything that no training of the run has seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from workflow.run.put_aside import PutAside
from workflow.run.state import Run
from workflow.versus.images import KnownImage, images_put_aside
from workflow.versus.printing import print_one
from workflow.versus.versus import compared

TITLES = {
    "held_back": "the answers held back",
    "test_set": "the test set",
    "golden": "the golden set",
}


def compare_files(
    run: Run, old: Path, new: Path, folder: Path, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Compare two files on the answers held back, the test set and the golden set, as far as there are any.

    Args:
        run: that the new file is of.
        old: the file in use.
        new: the other one.
        folder: for scores.
        tell: is told what is being compared on, in words.

    Returns:
        One ``{name, title, comparison}`` per set; see :func:`workflow.versus.versus.compared`.
    """
    found = []
    for name, images in _sets(run).items():
        if not images:
            continue
        tell(TITLES[name])
        _, document = compared(old, new, images, folder / name)
        print_one(document, TITLES[name])
        found.append({"name": name, "title": TITLES[name], "comparison": document})
    return found


def _sets(run: Run) -> dict[str, list[KnownImage]]:
    spec = run.config.spec
    # Without a rule or a column each image is a group by itself, which says nothing.
    has_groups = spec.group is not None or spec.layout.groups_column is not None
    test = [
        KnownImage(str(run.data.file_of(row)), row.label, row.subtype or "", row.group if has_groups else "")
        for row in run.data.test
    ]
    return {
        "held_back": images_put_aside(PutAside.read(run.folder, "held_back")),
        "test_set": test,
        "golden": images_put_aside(PutAside.read(run.folder, "golden")),
    }
