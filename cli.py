#!/usr/bin/env python
"""Outnumbered: find the images of the class that is outnumbered.

Every command is a file below ``workflow/commands/`` and a line in :data:`COMMANDS`. Heavy imports happen
inside the commands, so ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
except ImportError:
    sys.exit("Error: packages are missing here. Run make setup, and then .venv/bin/python cli.py.")

from contracts.errors import ExitCode, OutnumberedError
from contracts.packages import missing_training_as_error
from contracts.text import printable_lines

# Folder below workflow/commands/ → heading of its commands in --help.
PANELS = {"data": "Data sets", "runs": "Runs", "files": "Exported files", "machine": "This installation"}

# The file of each command, in the order of --help. The command is the function (or the typer.Typer of several
# commands) that has the file's name; train_all becomes train-all.
COMMANDS = (
    "data.datasets",
    "data.check",
    "data.explore",
    "runs.train_all",
    "runs.train",
    "runs.ensemble",
    "runs.compare",
    "runs.report",
    "runs.explain",
    "runs.localise",
    "runs.update",
    "runs.golden",
    "runs.apply",
    "runs.audit",
    "files.export",
    "files.parity",
    "files.inspect",
    "files.score",
    "files.versus",
    "files.monitor",
    "files.serve",
    "machine.demo",
    "machine.members",
    "machine.ui",
    "machine.doctor",
)

app = typer.Typer(
    name="outnumbered",
    help="Find the images of the class that is outnumbered: train, fuse, calibrate, export, score.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register(app: typer.Typer, place: str) -> None:
    """Add the command of one file to the app."""
    panel, name = place.split(".")
    command = getattr(importlib.import_module(f"workflow.commands.{place}"), name)
    words, heading = name.replace("_", "-"), PANELS[panel]
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=words, rich_help_panel=heading)
    else:
        app.command(words, rich_help_panel=heading)(command)


for _place in COMMANDS:
    register(app, _place)

_INTERRUPTED = "Interrupted. The same command continues where it stopped."


def main(arguments: list[str] | None = None, commands: typer.Typer = app) -> int:
    """Run a command; a user's mistake becomes one sentence and an exit code, never a traceback."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with missing_training_as_error():
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
        advice = "Free some space" if error.errno == errno.ENOSPC else "Fix that"
        what = escape(printable_lines(what))
        errors.print(f"[bold red]Error:[/] {what}. {advice}; the same command continues where it stopped.")
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
