"""Shared options reach a command as RunOptions, and its document and exit code reach the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import typer

import cli
from contracts.errors import ExitCode
from workflow.commands.options import Device, works_on_run

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions

FOLDER = Path(cli.__file__).parent / "workflow" / "commands"


def app_of(**options: Any) -> typer.Typer:
    """A program of one command that answers with the options that it was given."""

    @works_on_run(**options)
    def toy(
        options: RunOptions,
        words: Annotated[list[str] | None, typer.Argument()] = None,
        often: Annotated[int, typer.Option("--often", min=1)] = 1,
    ) -> Any:
        """Say words."""
        return {"options": vars(options), "words": words, "often": often}

    app = typer.Typer()
    app.command()(toy)
    return app


def run(capsys: pytest.CaptureFixture[str], app: typer.Typer, *arguments: str) -> tuple[int, Any]:
    code = cli.main([*arguments, "--json"], app)
    said = capsys.readouterr().out
    return code, json.loads(said) if said else None


def test_options_arrive_as_run_options(capsys):
    app = app_of(recipe="losses", device=True, jobs=True, ray=True, tracking=True)
    code, said = run(
        capsys,
        app,
        *("gender", "a", "b", "--often", "2", "--data", "d", "--recipe", "zoo", "-o", "folds=3", "-o", "x=1"),
        *(
            "--runs",
            "r",
            "--seed",
            "7",
            "--minority",
            "m",
            "--normal",
            "n",
            "--unlabelled",
            "--device",
            "cuda",
            "--jobs",
            "2",
            "--ray",
            "auto",
        ),
        "--no-tracking",
    )
    assert code == 0
    assert (said["words"], said["often"]) == (["a", "b"], 2)
    assert said["options"] == {
        "dataset": "gender",
        "data": "d",
        "recipe": "zoo",
        "overrides": ["folds=3", "x=1"],
        "runs": "r",
        "seed": 7,
        "device": "cuda",
        "minority": "m",
        "normal": "n",
        "unlabelled": True,
        "tracking": False,
        "jobs": 2,
        "ray": "auto",
    }


def test_a_command_with_a_normal_of_its_own_has_the_shared_one_by_its_longer_name(capsys):
    from workflow.settings.config import RunOptions

    @works_on_run()
    def update(options: RunOptions, normal: Annotated[str, typer.Option("--normal")] = "") -> Any:
        return {"options": vars(options), "own": normal}

    app = typer.Typer()
    app.command()(update)
    code, said = run(capsys, app, "gender", "--normal", "folder", "--normal-class", "male")
    assert code == 0
    assert (said["own"], said["options"]["normal"]) == ("folder", "male")
    options = RunOptions("gender", normal="male", unlabelled=True)
    assert options.command("update", "--normal", "folder").endswith(
        "update gender --normal folder --normal-class male --unlabelled"
    )
    assert options.command("score").endswith("score gender --normal male --unlabelled")


def test_defaults_are_those_of_run_options(capsys, monkeypatch):
    from workflow.settings.config import RunOptions

    monkeypatch.delenv("OUTNUMBERED_DATA", raising=False)
    monkeypatch.delenv("OUTNUMBERED_TRACKING", raising=False)
    code, said = run(capsys, app_of(device=True, jobs=True, ray=True, tracking=True), "gender")
    assert code == 0
    assert said["options"] == json.loads(json.dumps(vars(RunOptions("gender")), default=str))


@pytest.mark.parametrize(
    "option", ["--device=cpu", "--jobs=1", "--ray=auto", "--no-tracking", "--recipe=zoo"]
)
def test_a_command_has_only_the_options_that_it_obeys(capsys, option):
    assert run(capsys, app_of(recipe=None), "gender", option) == (ExitCode.USAGE, None)
    code, said = run(capsys, app_of(recipe=None), "gender")
    assert (code, said["options"]["device"]) == (0, Device.cpu)


def test_exit_code_follows_the_document(capsys):
    app = app_of(exit_code=lambda document: ExitCode.DATA if document["often"] > 1 else ExitCode.OK)
    assert run(capsys, app, "gender")[0] == 0
    code, said = run(capsys, app, "gender", "--often", "2")
    assert (code, said["often"]) == (ExitCode.DATA, 2)


def test_every_file_is_a_registered_command():
    files = {f"{path.parent.name}.{path.stem}" for path in FOLDER.glob("*/*.py") if path.stem != "__init__"}
    assert files == set(cli.COMMANDS)
    assert {place.split(".")[0] for place in cli.COMMANDS} == set(cli.PANELS)


def test_help_is_whole_sentences_without_riddles():
    """A default stands in brackets, never behind a semicolon."""
    for place in cli.COMMANDS:
        words = place.split(".")[1].replace("_", "-")
        command = typer.main.get_command(cli.app).commands[words]  # type: ignore[attr-defined]
        helps = [str(each.help) for each in command.params if each.name != "help"]
        assert helps, words
        for text in helps:
            assert text.endswith("."), text
            assert ";" not in text, text
