"""What people see: tables, notes and progress on stderr; stdout is for machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from contracts.text import printable_lines

console = Console(stderr=True, highlight=False)


def note(sentence: str) -> None:
    """Print one sentence; file names in it are shown as they are: never as markup, never cut in two."""
    console.print(escape(printable_lines(sentence)), soft_wrap=True)


class ProgressBar:
    """One running task of a progress display."""

    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total)

    def advance(self, steps: int = 1) -> None:
        """Count steps as done."""
        self._progress.advance(self._task, steps)

    def describe(self, description: str) -> None:
        """Say what is being done now."""
        self._progress.update(self._task, description=description)


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[ProgressBar]:
    """Show progress while the block runs; silent where stderr is no terminal.

    Args:
        description: what is being done.
        total: number of steps.
    """
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with progress:
        yield ProgressBar(progress, description, total)
