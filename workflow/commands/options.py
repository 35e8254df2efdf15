"""Options that commands share, and how a command answers with JSON. Needs typer and the standard library."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Device(StrEnum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Dataset = Annotated[
    str,
    typer.Argument(
        help="Name, YAML spec, folder with a folder per class, or list of images.", show_default=False
    ),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="OUTNUMBERED_DATA", help="Directory that the data sets lie in."),
]
RecipeName = Annotated[str, typer.Option("--recipe", help="Name, such as quick or zoo, or a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-o", "--override", help="key=value for any spec or recipe key, such as -o folds=3."),
]
Runs = Annotated[Path, typer.Option("--runs", help="Directory for runs and cached features.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
DeviceName = Annotated[Device, typer.Option("--device", help="Processor to train on.")]
Minority = Annotated[str | None, typer.Option("--minority", help="Name of the outnumbered class.")]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", min=1, help="Processes that train at a time; by default as many as pay off here."),
]
Ray = Annotated[str | None, typer.Option("--ray", help="Work on a Ray cluster: local, auto or HOST:PORT.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and what it takes.")]
Tracking = Annotated[
    bool,
    typer.Option(
        "--tracking/--no-tracking",
        envvar="OUTNUMBERED_TRACKING",
        help="Copy what was measured to MLflow, where it is installed.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

DEFAULT_RUNS = Path("runs")


def run_options(
    dataset: str,
    data: Path | None,
    recipe: str,
    override: list[str] | None,
    runs: Path,
    seed: int,
    device: Device,
    minority: str | None,
    tracking: bool = True,
    jobs: int | None = None,
    ray: str | None = None,
) -> Any:
    """The options as :class:`workflow.settings.config.RunOptions`, which is imported only now."""
    from workflow.settings.config import RunOptions

    return RunOptions(
        dataset=dataset,
        data=data,
        recipe=recipe,
        overrides=tuple(override or ()),
        runs=runs,
        seed=seed,
        device=device.value,
        minority=minority,
        tracking=tracking,
        jobs=jobs,
        ray=ray,
    )


def print_json(document: Any) -> None:
    """Print a document or a dataclass on stdout, which is for machines."""
    if dataclasses.is_dataclass(document) and not isinstance(document, type):
        document = dataclasses.asdict(document)
    typer.echo(json.dumps(document, indent=2, default=str))
