"""What an installation without training says."""

from __future__ import annotations

import sys

import pytest
import typer

import cli
from contracts.errors import ExitCode, UsageError
from contracts.packages import TRAINING, missing_training_as_error


@pytest.mark.parametrize("module", TRAINING)
def test_a_missing_package_of_training_is_a_sentence(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(UsageError, match=rf"{module} is not installed here.*outnumbered\[train\]"),
        missing_training_as_error(),
    ):
        __import__(module)


def test_another_missing_package_is_a_mistake_of_ours(monkeypatch):
    monkeypatch.setitem(sys.modules, "ours_alone", None)
    with pytest.raises(ModuleNotFoundError), missing_training_as_error():
        __import__("ours_alone")


def test_the_command_line_says_it_with_an_exit_code(monkeypatch, capsys):
    app = typer.Typer()

    @app.command()
    def fit() -> None:
        import scipy  # noqa: F401

    monkeypatch.setitem(sys.modules, "scipy", None)
    assert cli.main([], app) == ExitCode.USAGE
    assert "scipy is not installed here" in " ".join(capsys.readouterr().err.split())
