"""``datasets`` and ``datasets add``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from workflow.commands.options import Data, Json, Minority, Normal, Unlabelled, answers, print_json

datasets = typer.Typer(help="List the data sets of the catalogue and whether this machine has them.")


@datasets.callback(invoke_without_command=True)
def list_them(context: typer.Context, data: Data = None, as_json: Json = False) -> None:
    """List the data sets of the catalogue and whether this machine has them."""
    if context.invoked_subcommand is not None:
        return
    from workflow.inventory.datasets import list_datasets

    listed = list_datasets(data)
    if as_json:
        print_json(listed)


@datasets.command("add")
@answers()
def add(
    name: Annotated[str, typer.Argument(help="Name of the data set.", show_default=False)],
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Folder or list of images (default: you are asked)."),
    ] = None,
    hub: Annotated[
        str | None, typer.Option("--hub", help="owner/name on Hugging Face's hub, instead of a folder.")
    ] = None,
    revision: Annotated[
        str, typer.Option("--revision", help="Branch, tag or commit of --hub; the spec records the commit.")
    ] = "main",
    minority: Minority = None,
    normal: Normal = None,
    unlabelled: Unlabelled = False,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            help="What names the patient or lot: regular expression with one (group), or number of a folder.",
        ),
    ] = None,
    imbalance: Annotated[
        str | None, typer.Option("--imbalance", help="minority:majority to make in training, such as 1:20.")
    ] = None,
    test_per_class: Annotated[
        int | None, typer.Option("--test-per-class", min=1, help="Number of test images per class.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Title, one line.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Where the images come from.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Licence, as the owner states it.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Spec to write (default: where all commands look for names)."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a spec of that name.")] = False,
) -> Any:
    """Give a folder, a list or a data set of the hub a name, after looking at what it holds."""
    from imagedata.layouts.said import Said
    from workflow.inventory.add_dataset import NewDataset, add_dataset

    settings = {
        "title": title,
        "source": source,
        "licence": licence,
        "imbalance": imbalance,
        "test_per_class": test_per_class,
    }
    given = {key: value for key, value in settings.items() if value is not None}
    # Whoever named a folder by an option wants no questions, and a script has nobody to ask.
    ask = _ask if folder is None and hub is None and sys.stdin.isatty() else None
    said = Said(minority, normal, unlabelled)
    new = NewDataset(name, folder, said, group, given, output, overwrite, hub, revision)
    return add_dataset(new, ask)


def _ask(question: str, default: str) -> str:
    answer: str = typer.prompt(question, default=default, show_default=bool(default), err=True)
    return answer.strip()
