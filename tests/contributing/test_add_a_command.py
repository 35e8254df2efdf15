"""CONTRIBUTING's example of a new command works as printed: one file, one line in cli.py, nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contributing.examples import blocks_of, copy_of_repository, python

COMMANDS_START = "COMMANDS = (\n"


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the example's file and line."""
    repository = copy_of_repository(tmp_path_factory.mktemp("extended"))
    file, line = blocks_of("Add a command")
    (repository / "workflow" / "commands" / "runs" / "describe.py").write_text(file, encoding="utf-8")
    cli = repository / "cli.py"
    before = cli.read_text(encoding="utf-8")
    assert before.count(COMMANDS_START) == 1
    cli.write_text(before.replace(COMMANDS_START, COMMANDS_START + line), encoding="utf-8")
    return repository


def test_it_answers_with_one_document(extended: Path):
    said = python(extended, "cli.py", "describe", "elpv", "-o", "members.deep_svdd=false", "--json")
    assert json.loads(said) == {
        "dataset": "elpv",
        "members": ["patchcore", "subspace", "cnn", "cnn_weighted", "patch_head"],
    }


def test_help_lists_it_and_shows_the_shared_options(extended: Path):
    assert "describe" in python(extended, "cli.py", "--help")
    shown = python(extended, "cli.py", "describe", "--help")
    assert "Show which members a recipe has" in shown
    assert "--recipe" in shown
