"""Commands that say what a finished run does and why: a page, a picture an image, scores of its map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contracts.errors import ExitCode
from workflow.commands.options import (
    DEFAULT_RUNS,
    Data,
    Dataset,
    Device,
    Json,
    Minority,
    Overrides,
    RecipeName,
    Runs,
    Seed,
    print_json,
    run_options,
)

finished = typer.Typer()


@finished.command()
def report(
    dataset: Dataset,
    data: Data = None,
    recipe: RecipeName = "losses",
    override: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    minority: Minority = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Target file; report.html in the run.")
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Show images of the data set.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Write a compared run as one HTML page: table, curves, pictures, data facts."""
    from workflow.pages.report import report as run

    document = run(
        run_options(dataset, data, recipe, override, runs, seed, Device.cpu, minority), output, pictures
    )
    if as_json:
        print_json(document)


@finished.command()
def explain(
    dataset: Dataset,
    images: Annotated[
        list[Path] | None, typer.Argument(help="Images to explain.", show_default=False)
    ] = None,
    data: Data = None,
    recipe: RecipeName = "quick",
    override: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    minority: Minority = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder for the pictures; explanations in the run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show why images got their probability: map, members, and the nearest normal patches."""
    from workflow.explaining.explain import explain as run

    options = run_options(dataset, data, recipe, override, runs, seed, Device.cpu, minority)
    document = run(options, list(images or ()), output)
    if as_json:
        print_json(document)
    if document["failed"]:
        raise typer.Exit(ExitCode.SOME_IMAGES_FAILED)


@finished.command()
def localise(
    dataset: Dataset,
    data: Data = None,
    recipe: RecipeName = "quick",
    override: Overrides = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    minority: Minority = None,
    as_json: Json = False,
) -> None:
    """Measure where the exported map points: pixel AUROC and PRO against masks, on test images."""
    from workflow.explaining.localise import localise as run

    document = run(run_options(dataset, data, recipe, override, runs, seed, Device.cpu, minority))
    if as_json:
        print_json(document)
