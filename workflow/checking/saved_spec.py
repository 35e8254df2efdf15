"""What a check found and its user confirmed, written down as a spec that later commands take."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts.errors import UsageError
from contracts.files import write_text
from imagedata.plain_yaml import dump_yaml, parse_yaml
from imagedata.spec import DataSpec
from workflow.settings.config import RunConfig, RunOptions
from workflow.settings.documents import validated


def check_target(target: Path, config: RunConfig) -> None:
    """Refuse a place for the spec that cannot be, before minutes of looking.

    Raises:
        UsageError: no YAML file, or another one lies there.
    """
    if target.suffix.lower() not in {".yaml", ".yml"}:
        raise UsageError(f"--save {target}: name a file that ends in .yaml, which later commands take.")
    if target.is_dir():
        raise UsageError(f"--save {target}: that is a folder. Name a file in it.")
    if target.exists() and not _is_spec_of(target, config.spec.name):
        raise UsageError(
            f"--save {target}: a file that is no spec of {config.spec.name} lies there. Name another file."
        )


def _is_spec_of(target: Path, name: str) -> bool:
    try:
        document = parse_yaml(target.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("name") == name


def save_spec(config: RunConfig, near_duplicates: Path | None, target: Path) -> DataSpec:
    """Write the spec of a check: its group rule, its overrides, and the near copies to take into account.

    Args:
        config: of the check, with the group rule that is enforced or was confirmed.
        near_duplicates: file of near copies; None where there are none, or the spec names one.
        target: YAML file; found from any working directory, so are the images it names.
    """
    document = config.spec.model_dump(mode="json", exclude_unset=True)
    document["layout"] = _with_fixed_place(config, document["layout"])
    near = near_duplicates or config.spec.near_duplicates
    if near is not None:
        document["near_duplicates"] = os.path.abspath(near)  # noqa: PTH100  # links stay
    if config.spec.corrections is not None:
        document["corrections"] = os.path.abspath(config.spec.corrections)  # noqa: PTH100  # links stay
    if isinstance(config.spec.roi, str) and Path(config.spec.roi).is_file():
        document["roi"] = os.path.abspath(config.spec.roi)  # noqa: PTH100  # links stay
    text = dump_yaml(document)
    spec = validated(DataSpec, parse_yaml(text), str(target))
    write_text(target, text)
    return spec


def with_spec(options: RunOptions, saved: str) -> RunOptions:
    """The options of a later command that takes a saved spec, which holds what was said of the data set."""
    of_recipe = [
        pair
        for pair in options.overrides
        if pair.partition("=")[0].strip().split(".")[0] not in DataSpec.model_fields
    ]
    return replace(
        options, dataset=saved, data=None, minority=None, normal=None, unlabelled=False, overrides=of_recipe
    )


def _with_fixed_place(config: RunConfig, document: dict[str, Any]) -> dict[str, Any]:
    """The layout with the folder in which the set was found; a rule about paths holds from there only."""
    layout = config.spec.layout
    if layout.names_its_place:
        return document
    root = config.spec.find(config.data_dir)
    return {**document, "roots": [os.path.abspath(root)]}  # noqa: PTH100  # links stay
