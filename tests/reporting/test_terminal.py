"""Notes: sentences that can be copied. Progress: what a log file, a terminal and a notebook get."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from reporting import terminal
from reporting.terminal import note, progress_bar, state_in_words


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until a test moves it."""
    seconds = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(terminal.time, "monotonic", lambda: seconds.now)
    return seconds


@pytest.fixture
def notebook(monkeypatch):
    """A notebook's shell, and the lines that it shows: each a list of the texts it had one after another."""
    lines: list[list[str]] = []

    def display(shown, raw, display_id):
        assert raw
        assert display_id
        lines.append([shown["text/plain"]])
        return SimpleNamespace(update=lambda shown, raw: lines[-1].append(shown["text/plain"]))

    shell = type("ZMQInteractiveShell", (), {})()
    shown = SimpleNamespace(display=display)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, display=shown))
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    return lines


def test_a_path_longer_than_the_terminal_stays_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    path = "/data/" + "x" * 90 + "/[bold]tracking.db"
    note(f"Not tracked: {path}: database is locked.")
    assert capsys.readouterr().err == f"Not tracked: {path}: database is locked.\n"


def test_short_work_leaves_no_line_in_a_log(capsys, clock):
    with progress_bar("training", 3) as bar:
        for _ in range(3):
            clock.now += 1.0
            bar.advance()
    assert capsys.readouterr().err == ""


def test_a_log_gets_a_line_now_and_then(capsys, clock):
    with progress_bar("training", 100) as bar:
        for done in range(50):
            clock.now += 1.0
            bar.describe(f"cnn [fold {done % 5}]")
            bar.advance()
    assert capsys.readouterr().err.splitlines() == [
        "cnn [fold 4]: 19 of 100 (19 %), about 85 s left",
        "cnn [fold 4]: 39 of 100 (39 %), about 63 s left",
    ]


def test_a_notebook_gets_one_line_that_changes_and_ends_with_the_last_state(notebook, clock, capsys):
    with progress_bar("scoring", None) as bar:
        for done in range(1, 9):
            clock.now += 0.1
            bar.reach(done, 8)
    assert len(notebook) == 1
    assert notebook[0][0] == "scoring: 0 done"
    assert notebook[0][-1] == "scoring: 8 of 8 (100 %) in 1 s"
    assert len(notebook[0]) < 8
    assert capsys.readouterr() == ("", "")


def test_a_notebook_reads_plain_text_on_stdout(notebook, capsys):
    terminal.new_console().print("[bold]Exported[/] model.onnx")
    assert capsys.readouterr() == ("Exported model.onnx\n", "")


def test_at_a_terminal_a_bar_moves_and_is_gone(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=shown, force_terminal=True, width=100))
    with progress_bar("training", 4) as bar:
        bar.advance(4)
    assert "training" in shown.getvalue()
    assert "4/4" in shown.getvalue()


@pytest.mark.parametrize(
    ("done", "total", "seconds", "words"),
    [
        (0, 10, 5.0, "x: 0 of 10 (0 %)"),
        (5, 10, 300.0, "x: 5 of 10 (50 %), about 5 min left"),
        (1, 100, 360.0, "x: 1 of 100 (1 %), about 9.9 h left"),
        (10, 10, 12.3, "x: 10 of 10 (100 %) in 12 s"),
        (0, 0, 0.0, "x: 0 of 0 in 0 s"),
        (1200, None, 1.0, "x: 1,200 done"),
    ],
)
def test_words(done, total, seconds, words):
    assert state_in_words("x", done, total, seconds) == words
