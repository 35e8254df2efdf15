#!/usr/bin/env python
"""Outnumbered: find the images of the class that is outnumbered.

Every command is a few lines here and a story in ``workflow/``; heavy imports happen inside.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
except ImportError:
    sys.exit("Error: packages are missing here. Run make setup, and then .venv/bin/python cli.py.")

from contracts.errors import ExitCode, OutnumberedError
from contracts.text import printable_lines
from workflow.commands.datasets import datasets
from workflow.commands.files import files
from workflow.commands.options import (
    DEFAULT_RUNS,
    Data,
    Dataset,
    Device,
    DeviceName,
    DryRun,
    Jobs,
    Json,
    Minority,
    Overrides,
    Ray,
    RecipeName,
    Runs,
    Seed,
    Tracking,
    print_json,
    run_options,
)
from workflow.commands.runs import finished

app = typer.Typer(
    name="outnumbered",
    help="Find the images of the class that is outnumbered: train, fuse, calibrate, export, score.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(datasets, name="datasets")
app.add_typer(files)
app.add_typer(finished)

_INTERRUPTED = "Interrupted. The same command goes on where it was."


@app.command()
def members(as_json: Json = False) -> None:
    """List the member types that recipes are made of."""
    from workflow.inventory.members import list_members

    listed = list_members()
    if as_json:
        print_json(listed)


@app.command()
def check(
    dataset: Dataset,
    data: Data = None,
    override: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    minority: Minority = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="The HTML page; below --runs by default.")
    ] = None,
    confirm_groups: Annotated[
        bool | None,
        typer.Option("--confirm-groups/--deny-groups", help="The guessed patients or lots are (not) such."),
    ] = None,
    show_leak: Annotated[
        bool, typer.Option("--show-leak", help="Train heads with random and with grouped folds.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Spec to write: confirmed groups, near copies; later commands take it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what is wrong with a data set before minutes go into training; exit 3 if results would lie."""
    from workflow.checking.check import check as run

    options = run_options(dataset, data, "quick", override, runs, seed, Device.auto, minority)
    document = run(options, output, confirm_groups, show_leak, save)
    if as_json:
        print_json(document)
    if not document["valid"]:
        raise typer.Exit(ExitCode.DATA)


@app.command("train-all")
def train_all(
    dataset: Dataset,
    data: Data = None,
    recipe: RecipeName = "quick",
    override: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    device: DeviceName = Device.auto,
    minority: Minority = None,
    jobs: Jobs = None,
    ray: Ray = None,
    dry_run: DryRun = False,
    tracking: Tracking = True,
    as_json: Json = False,
) -> None:
    """Train every member of the recipe on every fold; goes on where it was interrupted."""
    options = run_options(dataset, data, recipe, override, runs, seed, device, minority, tracking, jobs, ray)
    _train(options, (), dry_run, as_json)


@app.command()
def train(
    dataset: Dataset,
    member: Annotated[str, typer.Argument(help="Member of the recipe.", show_default=False)],
    data: Data = None,
    recipe: RecipeName = "quick",
    override: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    device: DeviceName = Device.auto,
    minority: Minority = None,
    jobs: Jobs = None,
    ray: Ray = None,
    dry_run: DryRun = False,
    tracking: Tracking = True,
    as_json: Json = False,
) -> None:
    """Train one member of the recipe."""
    options = run_options(dataset, data, recipe, override, runs, seed, device, minority, tracking, jobs, ray)
    _train(options, (member,), dry_run, as_json)


def _train(options: Any, only: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Train the members named, all where none is, or only say what that would take."""
    if dry_run:
        from workflow.training.dry_run import dry_run as plan

        document: Any = plan(options, only)
    else:
        from workflow.training.train import train_all as run

        document = run(options, only)
    if as_json:
        print_json(document)


@app.command()
def ensemble(
    dataset: Dataset,
    data: Data = None,
    recipe: RecipeName = "quick",
    override: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    device: DeviceName = Device.auto,
    minority: Minority = None,
    tracking: Tracking = True,
    as_json: Json = False,
) -> None:
    """Fuse trained members into one calibrated model, measure it, and export it."""
    from workflow.ensembling.ensemble import ensemble as run

    document = run(run_options(dataset, data, recipe, override, runs, seed, device, minority, tracking))
    if as_json:
        print_json(document)


@app.command()
def compare(
    dataset: Dataset,
    members: Annotated[
        str | None, typer.Option("--members", help="Members to compare, a,b,c; all of the recipe's.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", help="What verdicts are about; average_precision, or acsa for more classes."
        ),
    ] = None,
    data: Data = None,
    recipe: RecipeName = "losses",
    override: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    device: DeviceName = Device.auto,
    minority: Minority = None,
    tracking: Tracking = True,
    jobs: Jobs = None,
    ray: Ray = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all figures to this file, too.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write tables and verdicts to this file, too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train what is missing, and say which technique beats the calibrated baseline here."""
    from workflow.comparing.compare import compare as run

    names = tuple(name.strip() for name in (members or "").split(",") if name.strip())
    options = run_options(dataset, data, recipe, override, runs, seed, device, minority, tracking, jobs, ray)
    document = run(options, names, metric, csv=csv, markdown=markdown)
    if as_json:
        print_json(document)


@app.command()
def update(
    dataset: Dataset,
    normal: Annotated[
        Path | None, typer.Option("--normal", help="Folder of images that were flagged but are fine.")
    ] = None,
    missed: Annotated[
        Path | None, typer.Option("--missed", help="Folder of images of the outnumbered class, missed.")
    ] = None,
    data: Data = None,
    recipe: RecipeName = "quick",
    override: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    device: DeviceName = Device.auto,
    minority: Minority = None,
    tracking: Tracking = True,
    as_json: Json = False,
) -> None:
    """Teach a finished run its false alarms and misses, in seconds; trains nothing, exports anew."""
    from workflow.updating.update import update as run

    options = run_options(dataset, data, recipe, override, runs, seed, device, minority, tracking)
    document = run(options, normal, missed)
    if as_json:
        print_json(document)
    if document["skipped"]:
        raise typer.Exit(ExitCode.SOME_IMAGES_FAILED)


@app.command()
def explore(
    dataset: Dataset,
    data: Data = None,
    recipe: RecipeName = "quick",
    override: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    device: DeviceName = Device.auto,
    minority: Minority = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder for page and pictures; RUNS/explored/DATASET.")
    ] = None,
    with_map: Annotated[
        bool, typer.Option("--map/--no-map", help="Draw the embedding map, which runs the backbone.")
    ] = True,
    slides: Annotated[int, typer.Option("--slides", min=0, help="Slides to draw at most.")] = 8,
    as_json: Json = False,
) -> None:
    """Look at a data set: counts, contact sheets, sizes, a map with its outliers, slides of patches."""
    from workflow.exploring.explore import explore as run

    options = run_options(dataset, data, recipe, override, runs, seed, device, minority)
    document = run(options, output, with_map, slides)
    if as_json:
        print_json(document)


@app.command()
def demo(
    runs: Runs = DEFAULT_RUNS,
    recipe: RecipeName = "quick",
    tracking: Tracking = True,
    as_json: Json = False,
) -> None:
    """Run the main job on solar cells that a pip package carries, from training to scored images."""
    from workflow.demo import demo as run

    document = run(runs, recipe, tracking)
    if as_json:
        print_json(document)


@app.command()
def ui(
    runs: Runs = DEFAULT_RUNS,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Open MLflow's pages on the tracked runs, or say how to."""
    from workflow.tracking.ui import ui as run

    run(runs, port)


@app.command()
def doctor(data: Data = None, as_json: Json = False) -> None:
    """Say what this machine has, what is missing and what to do about it."""
    from workflow.inventory.doctor import doctor as run

    report = run(data)
    if as_json:
        print_json(report)
    if not report["healthy"]:
        raise typer.Exit(ExitCode.MODEL)


def main(arguments: list[str] | None = None, commands: typer.Typer = app) -> int:
    """Run a command; a user's mistake becomes one sentence and an exit code, never a traceback."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        outcome = commands(args=arguments, standalone_mode=False)
    except OutnumberedError as error:
        errors.print(f"[bold red]Error:[/] {escape(printable_lines(str(error)))}")
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        errors.print(_INTERRUPTED)
        return int(ExitCode.INTERRUPTED)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader of stdout has gone; point it elsewhere so that the interpreter can close it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return int(ExitCode.OK)
        what = f"{error.filename}: " if error.filename else ""
        what += error.strerror or str(error)
        advice = "Free some space" if error.errno == errno.ENOSPC else "Mend that"
        what = escape(printable_lines(what))
        errors.print(f"[bold red]Error:[/] {what}. {advice}; the same command goes on where it was.")
        return int(ExitCode.DATA)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message"):
            errors.print(f"[bold red]Error:[/] {escape(error.format_message())} Try --help.")
            return int(ExitCode.USAGE)
        raise
    if outcome == ExitCode.INTERRUPTED:
        # Typer turns the first Ctrl-C into an exit code by itself.
        errors.print(_INTERRUPTED)
    return outcome if isinstance(outcome, int) else int(ExitCode.OK)


if __name__ == "__main__":
    sys.exit(main())
