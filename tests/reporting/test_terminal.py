"""Notes: sentences that can be copied."""

from __future__ import annotations

from reporting.terminal import note


def test_a_path_longer_than_the_terminal_stays_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    path = "/data/" + "x" * 90 + "/[bold]tracking.db"
    note(f"Not tracked: {path}: database is locked.")
    assert capsys.readouterr().err == f"Not tracked: {path}: database is locked.\n"
