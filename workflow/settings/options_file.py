"""``options.json``: what a run was last asked for, so that the run folder alone is enough to go on with it.

``config.json`` holds what the options were resolved to, which is not the same: a data set's name, a folder or
an override that ``ensemble`` took cannot be read back from it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts.errors import ModelError
from contracts.files import read_json, write_json
from imagedata.resolve import catalogue_names, own_names
from workflow.settings.config import RunOptions
from workflow.settings.recipe import recipe_names

OPTIONS_FILE = "options.json"

# Where to train, with how many processes and who is told says nothing about the run.
_TEXTS = ("dataset", "recipe", "minority", "normal")


def write_options(folder: Path, options: RunOptions) -> None:
    """Keep the options that name a run and its settings; paths are absolute, whatever folder is read from."""
    write_json(
        folder / OPTIONS_FILE,
        {
            "dataset": _placed(options.dataset, [*catalogue_names(), *own_names()]),
            "data": None if options.data is None else str(options.data.absolute()),
            "recipe": _placed(options.recipe, recipe_names()),
            "overrides": list(options.overrides),
            "seed": options.seed,
            "minority": options.minority,
            "normal": options.normal,
            "unlabelled": options.unlabelled,
        },
    )


def read_options(folder: Path) -> RunOptions:
    """The options of the last command that trained or fitted a run.

    Args:
        folder: ``RUNS/DATASET/RECIPE``.

    Raises:
        ModelError: no run folder, or one without readable options.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder}: no run folder, which would hold config.json. Name one, such as runs/parts/quick, or "
            "train one first."
        )
    try:
        saved: dict[str, Any] = read_json(folder / OPTIONS_FILE)
        data = saved.pop("data")
        options = RunOptions(
            **saved, data=None if data is None else Path(data), runs=folder.absolute().parents[1]
        )
        for name in _TEXTS:
            if not isinstance(getattr(options, name), str | None):
                raise TypeError(name)
        return replace(options, overrides=tuple(options.overrides))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"{folder}: {OPTIONS_FILE} is missing or damaged; runs of earlier versions have none. Give the "
            "run's train-all command once more, which writes it and trains nothing again."
        ) from None


def _placed(name: str, known: list[str]) -> str:
    """A name as it is, a path as an absolute one."""
    return name if name in known or not Path(name).exists() else str(Path(name).absolute())
