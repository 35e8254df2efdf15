"""What the facts about a run say of images that are used for nothing, in training and in check."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import run_command
from tests.imagedata.trees import noise
from workflow.run.prepared import prepare_data
from workflow.run.summary import print_data_facts
from workflow.settings.config import RunOptions, resolve_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with usable images, images under other endings, and junk."""
    parts = tmp_path / "parts"
    for number in range(60):
        noise(parts / ("bad" if number % 5 == 0 else "good") / f"{number}.png", number)
    image = (parts / "bad" / "0.png").read_bytes()
    for name in ("bad/old.PNG.bak", "good/IMG_1", "good/IMG_2", "good/._1.bak", "__MACOSX/good/1.bak"):
        (parts / name).parent.mkdir(parents=True, exist_ok=True)
        (parts / name).write_bytes(image)
    (parts / "good" / "notes.txt").write_text("text")
    return parts


EXPECTED = {".bak": 1, "no ending": 2}
SENTENCE = "Left out: 3 images end in .bak (1) or no ending (2)"


def test_training_names_images_of_other_endings(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolve_config(RunOptions(dataset=str(folder), runs=tmp_path / "runs"))
    facts = print_data_facts(config, prepare_data(config))
    assert facts["images_of_other_endings"] == EXPECTED
    assert sum(facts["train"].values()) + sum(facts["test"].values()) == 60
    assert SENTENCE in " ".join(capsys.readouterr().err.split())


def test_check_names_them_too(folder: Path, tmp_path: Path) -> None:
    outcome = run_command("check", folder, "--runs", tmp_path / "runs", "--json")
    assert outcome.json["images_of_other_endings"] == EXPECTED
    assert outcome.json["files"] == 60
    assert SENTENCE in " ".join(outcome.err.split())
