"""A run whose data set lies elsewhere now: taken up from its new place, as its files are the same."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts.errors import ModelError
from contracts.files import read_json, write_json
from imagedata.manifest import Manifest
from imagedata.materialise import Folders
from reporting.terminal import note, progress_bar
from workflow.run.file_changes import differing_files
from workflow.settings.config import PLACE_KEYS, RunConfig

_FILES_TRIED = 100
"""Images that are looked for in a folder of another name, before it is proposed as the same data set."""


def folders_of(config: RunConfig) -> Folders:
    """Where a run's images are looked for, and where files of our own go."""
    return Folders(config.data_dir, config.options.runs)


def asked_for_a_place(config: RunConfig) -> bool:
    """Whether the command says where the images lie; if not, they are those of the last training."""
    layout = config.spec.layout
    return (
        config.data_dir is not None
        or layout.is_table
        or any(Path(root).is_absolute() for root in layout.roots)
    )


def moved_manifest(config: RunConfig, manifest: Manifest, root: Path) -> Manifest:
    """The manifest with its images at another place, if every image that the run uses is the same there.

    The run folder is rewritten with the new place. Nothing is trained again: what fits depend on are the
    images' digests and their paths below the root.

    Raises:
        ModelError: an image that the run uses is missing there, or has other bytes.
    """
    rows = [row for row in manifest.rows if row.status == "ok" and row.split != "augmented"]
    missing, different = differing_files(
        config.spec, folders_of(config), root, rows, config.decode, progress_bar
    )
    if missing or different:
        affected, what = (missing, "are missing") if missing else (different, "differ")
        found = f"{len(affected)} of its {len(rows)} images {what} there (the first: {affected[0]})"
        raise ModelError(
            f"{config.folder}: trained on the images of {manifest.root}, but now those of {root} "
            f"are asked for, and {found}. Use another --runs for them, or train again (equal images are not "
            f"repeated) with: {config.options.command('train-all')}"
        )
    moved = replace(manifest, root=root)
    moved.write(config.folder / "manifest.parquet")
    path = config.folder / "config.json"
    saved = read_json(path)
    layout = config.to_json()["dataset"]["layout"]
    saved["dataset"]["layout"] |= {key: layout[key] for key in PLACE_KEYS if key in layout}
    write_json(path, saved)
    note(
        f"The data set moved from {manifest.root} to {root}; all {len(rows)} images of this run are the same."
    )
    return moved


def hint_of_other_name(config: RunConfig) -> str:
    """What to do where the data set's folder has another name now than in training; empty where it has not.

    A run folder is named after its data set, so a renamed folder looks like a new data set. A run is proposed
    where its first images all lie below the new folder.
    """
    if config.data_dir is None:
        return ""
    for path in sorted(config.options.runs.glob(f"*/{config.recipe.name}/config.json")):
        try:
            dataset: dict[str, Any] = read_json(path)["dataset"]
            name, classes = dataset["name"], (dataset["classes"], dataset["minority"])
            if classes != (config.spec.classes, config.spec.minority) or name == config.spec.name:
                continue
            manifest = Manifest.read(path.with_name("manifest.parquet"))
        except (OSError, ValueError, KeyError, TypeError):  # another version's, or torn
            continue
        tried = manifest.usable("train")[:_FILES_TRIED]
        folder = Path(config.options.dataset).absolute()
        if tried and all((config.data_dir / row.path).is_file() for row in tried):
            again = replace(config.options, dataset=name, data=None, minority=None).command("ensemble")
            return (
                f". If this is the data set {name} of {path.parent} under a new name, keep its old one: "
                + shlex.join(["python", "cli.py", "datasets", "add", name, "--folder", str(folder)])
                + f" --minority {shlex.quote(config.spec.minority)}; then go on by name, as in: {again}"
            )
    return ""
