"""What people see: tables, notes and progress on stderr; stdout is for machines.

Where it is read decides its form. A terminal gets colours and bars that move. A log file gets plain lines, of
progress one now and then. A notebook, in which stdout is what people read and stderr is marked as a mistake,
gets plain lines on stdout and one line of progress that is replaced.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

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

SECONDS_BETWEEN_LINES = 20.0
"""Between two lines of progress in a log file, and before the first: short work leaves none."""

_SECONDS_BETWEEN_CHANGES = 0.25
_NOTEBOOK_WIDTH = 110
_NOTEBOOK_SHELL = "ZMQInteractiveShell"


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this process."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return type(shell).__name__ == _NOTEBOOK_SHELL


def new_console(*, soft_wrap: bool = False) -> Console:
    """A console for whoever reads what this process says."""
    if in_notebook():
        # Plain text, which stays one block of output; as HTML each sentence would be a block of its own.
        return Console(
            force_jupyter=False,
            force_terminal=False,
            highlight=False,
            width=_NOTEBOOK_WIDTH,
            soft_wrap=soft_wrap,
        )
    return Console(stderr=True, highlight=False, soft_wrap=soft_wrap)


console = new_console()


def note(sentence: str) -> None:
    """Print one sentence; file names in it are shown as they are: never as markup, never cut in two."""
    console.print(escape(printable_lines(sentence)), soft_wrap=True)


class _Display(Protocol):
    """Where the state of a task is shown."""

    def show(self, description: str, done: int, total: int | None) -> None:
        """Show a state; a display may leave states out that follow each other quickly."""

    def end(self, description: str, done: int, total: int | None) -> None:
        """Show the last state."""


class ProgressBar:
    """One running task, shown as the place where it is read allows."""

    def __init__(self, display: _Display, description: str, total: int | None) -> None:
        self._display = display
        self._description, self._done, self._total = description, 0, total
        self._show()

    def advance(self, steps: int = 1) -> None:
        """Count steps as done."""
        self._done += steps
        self._show()

    def describe(self, description: str) -> None:
        """Say what is being done now."""
        self._description = description
        self._show()

    def reach(self, done: int, total: int) -> None:
        """Say how many steps are done, of how many."""
        self._done, self._total = done, total
        self._show()

    def end(self) -> None:
        """Show the last state."""
        self._display.end(self._description, self._done, self._total)

    def _show(self) -> None:
        self._display.show(self._description, self._done, self._total)


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[ProgressBar]:
    """Show progress while the block runs: a bar, a line that is replaced, or lines now and then.

    Args:
        description: what is being done.
        total: number of steps; None where it is known later, from :meth:`ProgressBar.reach`.
    """
    if not console.is_terminal:
        bar = ProgressBar(_NotebookLine() if in_notebook() else _LogLines(), description, total)
        yield bar
        bar.end()
        return
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with progress:
        yield ProgressBar(_TerminalBar(progress), description, total)


class _TerminalBar:
    """A bar that moves, and is gone when the work is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def show(self, description: str, done: int, total: int | None) -> None:
        self._progress.update(self._task, description=description, completed=done, total=total)

    def end(self, description: str, done: int, total: int | None) -> None:
        self.show(description, done, total)


class _LogLines:
    """A line now and then, so that whoever follows a log file sees how far the work is."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()

    def show(self, description: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            note(state_in_words(description, done, total, now - self._started))

    def end(self, description: str, done: int, total: int | None) -> None:
        """The sentence that follows says what was done."""


class _NotebookLine:
    """One line of a notebook's output, replaced as the work goes on."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._last = float("-inf")
        self._handle: Any = None

    def show(self, description: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_CHANGES:
            self._last = now
            self._write(description, done, total)

    def end(self, description: str, done: int, total: int | None) -> None:
        self._write(description, done, total)

    def _write(self, description: str, done: int, total: int | None) -> None:
        from IPython import display

        text = state_in_words(description, done, total, time.monotonic() - self._started)
        # A kernel that answers with a mimetype bundle shows it without quotation marks, as text.
        shown = {"text/plain": text}
        if self._handle is None:
            self._handle = display.display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


def state_in_words(description: str, done: int, total: int | None, seconds: float) -> str:
    """A state of a task in one line, such as ``training: 12 of 42 (29 %), about 3 min left``.

    Args:
        description: what is being done.
        done: steps.
        total: steps in all; None where nobody knows.
        seconds: since the beginning.
    """
    if total is None:
        return f"{description}: {done:,} done"
    share = f" ({100 * done // total} %)" if total else ""
    words = f"{description}: {done:,} of {total:,}{share}"
    if done >= total:
        return f"{words} in {_duration(seconds)}"
    return f"{words}, about {_duration(seconds * (total - done) / done)} left" if done else words


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
