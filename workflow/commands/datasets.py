"""``datasets`` and ``datasets add``; a command is a few lines here and a story of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from workflow.commands.options import Data, Json, Minority, print_json

datasets = typer.Typer(help="List the data sets known by name, and which of them lie on this machine.")


@datasets.callback(invoke_without_command=True)
def list_them(context: typer.Context, data: Data = None, as_json: Json = False) -> None:
    """List the data sets known by name, and which of them lie on this machine."""
    if context.invoked_subcommand is not None:
        return
    from workflow.inventory.datasets import list_datasets

    listed = list_datasets(data)
    if as_json:
        print_json(listed)


@datasets.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name for the data set.", show_default=False)],
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Folder or list of images; asked for if left out."),
    ] = None,
    hub: Annotated[
        str | None, typer.Option("--hub", help="In place of a folder: owner/name on Hugging Face's hub.")
    ] = None,
    revision: Annotated[
        str, typer.Option("--revision", help="Of --hub: branch, tag or commit; the commit is written down.")
    ] = "main",
    minority: Minority = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="Patient or lot: expression with one (group), or a folder's number."),
    ] = None,
    imbalance: Annotated[
        str | None, typer.Option("--imbalance", help="minority:majority to make in training, as 1:20.")
    ] = None,
    test_per_class: Annotated[
        int | None, typer.Option("--test-per-class", min=1, help="Images of each class to hold out.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="One line for people.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Where others get it.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="As its owner states it.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Spec to write; else the name works everywhere.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a spec of that name.")] = False,
    as_json: Json = False,
) -> None:
    """Give a folder, a list or a set of the hub a name, after looking at what it holds."""
    from workflow.inventory.add_dataset import NewDataset, add_dataset

    settings = {
        "title": title,
        "source": source,
        "licence": licence,
        "imbalance": imbalance,
        "test_per_class": test_per_class,
    }
    given = {key: value for key, value in settings.items() if value is not None}
    # Who gave the folder by a flag wants no questions, and a script has nobody to ask.
    ask = _ask if folder is None and hub is None and sys.stdin.isatty() else None
    new = NewDataset(name, folder, minority, group, given, output, overwrite, hub, revision)
    document = add_dataset(new, ask)
    if as_json:
        print_json(document)


def _ask(question: str, default: str) -> str:
    answer: str = typer.prompt(question, default=default, show_default=bool(default), err=True)
    return answer.strip()
