"""Options that commands share, and how a command answers. Needs typer and the standard library only.

A command is a function in a file of its own. :func:`works_on_run` gives it the options of every command that
works on a data set, and :func:`answers` gives it ``--json``::

    @works_on_run(tracking=True)
    def ensemble(options: RunOptions) -> Any:
        '''Fuse trained members into one calibrated model.'''
        from workflow.ensembling.ensemble import ensemble

        return ensemble(options)
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from contracts.errors import ExitCode


class Device(StrEnum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"

    @property
    def word(self) -> Literal["auto", "cpu", "cuda"]:
        """As :class:`workflow.settings.config.RunOptions` takes it."""
        return self.value


_SHARED = "Shared options"

Dataset = Annotated[
    str,
    typer.Argument(
        help="Name in the catalogue, YAML spec, folder of images or of one folder per class, or list.",
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="OUTNUMBERED_DATA",
        help="Directory that holds the data sets.",
        rich_help_panel=_SHARED,
    ),
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe", help="A recipe's name, such as quick or zoo, or a YAML file.", rich_help_panel=_SHARED
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--override",
        help="key=value for any key of the spec or the recipe, such as -o folds=3.",
        rich_help_panel=_SHARED,
    ),
]
Runs = Annotated[
    Path, typer.Option("--runs", help="Directory for runs and cached features.", rich_help_panel=_SHARED)
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, help="Seed of everything random.", rich_help_panel=_SHARED)
]
DeviceName = Annotated[Device, typer.Option("--device", help="Device to train on.", rich_help_panel=_SHARED)]
Minority = Annotated[
    str | None, typer.Option("--minority", help="Name of the minority class.", rich_help_panel=_SHARED)
]
_NORMAL_HELP = "Name of the class whose images are normal, all others being the minority."
Normal = Annotated[
    str | None, typer.Option("--normal", "--normal-class", help=_NORMAL_HELP, rich_help_panel=_SHARED)
]
NormalClass = Annotated[
    str | None, typer.Option("--normal-class", help=_NORMAL_HELP, rich_help_panel=_SHARED)
]
"""For a command with a ``--normal`` of its own."""

Unlabelled = Annotated[
    bool,
    typer.Option(
        "--unlabelled",
        help="Nobody knows the labels: take all images, and use none.",
        rich_help_panel=_SHARED,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        help="Number of training processes (default: as many as are faster than one).",
        rich_help_panel=_SHARED,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", help="Work on a Ray cluster: local, auto or HOST:PORT.", rich_help_panel=_SHARED),
]
Tracking = Annotated[
    bool,
    typer.Option(
        "--tracking/--no-tracking",
        envvar="OUTNUMBERED_TRACKING",
        help="Copy the figures to MLflow if it is installed.",
        rich_help_panel=_SHARED,
    ),
]
SkipBadRows = Annotated[
    bool,
    typer.Option(
        "--skip-bad-rows",
        help="Leave out rows of a list that contradict, repeat or name no file (layout.skip_bad_rows).",
        rich_help_panel=_SHARED,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show what would be trained, and the time and disk it takes.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]

DEFAULT_RUNS = Path("runs")

# Field of RunOptions → its option and default; a command asks for those of the last four that it obeys.
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "data": (Data, None),
    "recipe": (RecipeName, "quick"),
    "overrides": (Overrides, None),
    "runs": (Runs, DEFAULT_RUNS),
    "seed": (Seed, 0),
    "minority": (Minority, None),
    "normal": (Normal, None),
    "unlabelled": (Unlabelled, False),
    "skip_bad_rows": (SkipBadRows, False),
    "device": (DeviceName, Device.auto),
    "jobs": (Jobs, None),
    "ray": (Ray, None),
    "tracking": (Tracking, True),
}

Command = Callable[..., Any]
ExitCodeOf = Callable[[Any], ExitCode]
AfterTraining = Literal["keeps", "trains"]


def works_on_run(
    *,
    recipe: str | None = "quick",
    device: bool = False,
    jobs: bool = False,
    ray: bool = False,
    tracking: bool = False,
    after_training: AfterTraining | None = None,
    exit_code: ExitCodeOf | None = None,
) -> Callable[[Command], Command]:
    """Give a command the argument DATASET, the shared options and ``--json``.

    The command's first parameter, ``options``, is then a :class:`workflow.settings.config.RunOptions`; its
    own arguments and options follow as typer knows them, and what it returns is the document of ``--json``.

    Args:
        recipe: the recipe where none is named; None where the command reads none, and has no ``--recipe``.
        device: has ``--device``; the others use the CPU where there is a choice.
        jobs: has ``--jobs``.
        ray: has ``--ray``.
        tracking: has ``--tracking`` and ``--no-tracking``.
        after_training: for a command about a trained run, whether it keeps to the trained rows or trains on
            the data set as it is now. It says what changed in the data set since training, and its document
            then has the key ``data_changed``.
        exit_code: see :func:`answers`.
    """
    left_out = {name for name, has in (("device", device), ("jobs", jobs), ("ray", ray)) if not has}
    left_out |= set() if tracking else {"tracking"}
    left_out |= {"recipe"} if recipe is None else set()

    def decorate(command: Command) -> Command:
        own = _parameters(command)
        # A command's own --normal takes the place of the shared one, which then has its longer name alone.
        renamed = {"normal": ("normal_class", NormalClass)} if "normal" in {each.name for each in own} else {}
        shared = {
            name: inspect.Parameter(
                renamed.get(name, (name, option))[0],
                inspect.Parameter.KEYWORD_ONLY,
                default=recipe if name == "recipe" else default,
                annotation=renamed.get(name, (name, option))[1],
            )
            for name, (option, default) in _OPTIONS.items()
            if name not in left_out
        }
        dataset = inspect.Parameter("dataset", inspect.Parameter.KEYWORD_ONLY, annotation=Dataset)

        @functools.wraps(command)
        def with_options(**given: Any) -> Any:
            # It imports pydantic and Pillow, for which no --help should wait.
            from workflow.settings.config import RunOptions

            fields = {name: given.pop(each.name) for name, each in shared.items()}
            fields["dataset"] = given.pop("dataset")
            fields["overrides"] = tuple(fields["overrides"] or ())
            if fields.pop("skip_bad_rows"):
                fields["overrides"] += ("layout.skip_bad_rows=true",)
            fields["device"] = (fields["device"] if device else Device.cpu).word
            options = RunOptions(**fields)
            if after_training is None:
                return command(options, **given)
            from workflow.run.changes import data_changes

            changed = data_changes(options, trains=after_training == "trains")
            document = command(options, **given)
            return document if changed is None else {**document, "data_changed": changed}

        with_options.__signature__ = inspect.Signature([dataset, *own, *shared.values()])  # type: ignore[attr-defined]
        return answers(exit_code)(with_options)

    return decorate


def answers(exit_code: ExitCodeOf | None = None) -> Callable[[Command], Command]:
    """Give a command ``--json``, which prints on stdout what the command returns.

    Args:
        exit_code: of the returned document; 0 where there is no such function.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_json(*, as_json: bool, **given: Any) -> None:
            document = command(**given)
            if as_json:
                print_json(document)
            code = ExitCode.OK if exit_code is None else exit_code(document)
            if code != ExitCode.OK:
                raise typer.Exit(code)

        signature = getattr(command, "__signature__", None)
        own = _parameters(command, skip="") if signature is None else list(signature.parameters.values())
        flag = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json)
        parameters = [*own, flag]
        with_json.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        # Typer reads the types here, and only their order and defaults in the signature.
        with_json.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_json

    return decorate


def _parameters(command: Command, skip: str = "options") -> list[inspect.Parameter]:
    """A command's own parameters with their types resolved, made to be passed by name."""
    # The type of ``options`` is imported for type checkers only, so any name will do for it here.
    types = get_type_hints(command, localns={"RunOptions": object}, include_extras=True)
    return [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=types[name])
        for name, each in inspect.signature(command).parameters.items()
        if name != skip
    ]


def failed_images(document: Any) -> ExitCode:
    """The exit code of a command that goes on without images that it cannot use: 4 where there are any."""
    unused = document.get("failed") or document.get("skipped") or document.get("left_out")
    return ExitCode.SOME_IMAGES_FAILED if unused else ExitCode.OK


def print_json(document: Any) -> None:
    """Print a document or a dataclass on stdout, which is for machines."""
    if dataclasses.is_dataclass(document) and not isinstance(document, type):
        document = dataclasses.asdict(document)
    typer.echo(json.dumps(document, indent=2, default=str))
