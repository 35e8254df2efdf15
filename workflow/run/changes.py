"""Noticing that a trained run's data set changed on disk since it was trained."""

from __future__ import annotations

from typing import Any

from contracts.errors import OutnumberedError
from imagedata.manifest import Manifest
from reporting.terminal import note
from workflow.run.file_changes import DataChanges, changes_since
from workflow.run.moved import asked_for_a_place, folders_of
from workflow.run.prepared import load_prepared
from workflow.settings.config import RunConfig, RunOptions, resolve_config


def data_changes(options: RunOptions, *, trains: bool) -> dict[str, Any] | None:
    """Say in one sentence, on standard error, what changed in a run's data set since it was trained.

    Files are listed, and those are hashed whose size or time is another than at the last inspection.

    Args:
        options: which run.
        trains: the command takes the changes in by itself; if not, it goes on with what was trained.

    Returns:
        ``{added, removed, replaced, relabelled, examples, taken_in, command}``: counts, the first paths of
        each, whether this command takes them in, and the command line that does. None where nothing
        changed, or where there is no trained run to compare with: the command itself then says so.
    """
    try:
        config = resolve_config(options)
        if not (config.folder / "config.json").exists():
            return None
        changes = _changes(config, load_prepared(config).manifest)
    except OutnumberedError:
        return None
    if not changes:
        return None
    command = options.command("train-all")
    then = (
        "This command trains on the changed data set"
        if trains
        else f"This command goes on with what was trained. To train on the changed data set, run: {command}"
    )
    note(f"The data set changed since {config.folder} was trained: {changes.summary}. {then}.")
    return {**changes.to_json(), "taken_in": trains, "command": command}


def _changes(config: RunConfig, manifest: Manifest) -> DataChanges:
    folders = folders_of(config)
    if asked_for_a_place(config):
        source = config.spec.find(folders.data)
    elif config.spec.layout.writes_images:
        # Where the originals lie is not asked for now, and the run reads the files that it wrote itself.
        return DataChanges()
    else:
        source = manifest.root
    return changes_since(config.spec, folders, source, manifest, config.decode)
