"""The folders of the story that README begins with: good solar cells, a line to score, cells to judge by."""

from __future__ import annotations

import shutil
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from contracts.errors import UsageError
from reporting.terminal import note
from workflow.run.prepared import manifest_of
from workflow.settings.config import RunOptions, resolve_config

# How many cells each folder takes, in one seeded order; None: all that are left.
_FOLDERS: dict[str, tuple[tuple[str, int | None], ...]] = {
    "functional": (("cells/good", 200), ("line/good", 200), ("later/good", None)),
    "defective": (("line/bad", 40), ("later/bad", None)),
}


def first_day(into: Path, runs: Path) -> dict[str, Any]:
    """Copy monocrystalline cells of ELPV, those that its experts were sure of, into folders.

    Args:
        into: directory of the folders ``cells``, ``line`` and ``later``.
        runs: for what listing the data set leaves.

    Returns:
        ``{"folders": {folder: number of images}}``.

    Raises:
        UsageError: a folder exists.
        DataError: the package elpv-dataset is not installed.
    """
    present = [name for name in ("cells", "line", "later") if (into / name).exists()]
    if present:
        raise UsageError(f"first-day: {into / present[0]} exists. Remove it, or name another place: --into")
    config = resolve_config(
        RunOptions("elpv", overrides=("imbalance=null", "test_per_class=null"), runs=runs)
    )
    manifest = manifest_of(config)
    rows = [row for row in (*manifest.usable("train"), *manifest.usable("test")) if row.subtype == "mono"]
    # Neighbours in the list come from one module; an order by digest mixes them, the same on every machine.
    rows.sort(key=lambda row: sha256(Path(row.path).name.encode()).hexdigest())
    counts = {}
    for label, folders in _FOLDERS.items():
        of_class = iter([row for row in rows if row.label == label])
        for name, wanted in folders:
            folder = into / name
            folder.mkdir(parents=True)
            chosen = list(islice(of_class, wanted))
            for row in chosen:
                shutil.copy(manifest.root / row.path, folder)
            counts[name] = len(chosen)
            note(f"{folder}: {len(chosen)} images")
    return {"folders": counts}
