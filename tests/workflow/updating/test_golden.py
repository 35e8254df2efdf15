"""The golden set: it never trains, by its bytes or by its picture, and files are compared on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Outcome, Run
from tests.pictures import write_pictures


@pytest.fixture(scope="module")
def golden(
    fitted: tuple[Run, Outcome], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Path, Outcome]:
    """A fitted run with a golden set of six images, three of each class."""
    folder = tmp_path_factory.mktemp("golden")
    run = fitted[0].copy(folder, with_dataset=True)
    write_pictures(folder / "aside" / "fine", 3, odd=False, seed=71)
    write_pictures(folder / "aside" / "odd" / "blotch", 3, odd=True, seed=72)
    return run, folder / "aside", run.command("golden", folder / "aside", "--json")


def saved_again(source: Path, target: Path) -> Path:
    """The same picture two grey levels brighter, in other bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(Image.open(source).convert("RGB")).astype(int) + 2
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(target)
    return target


def test_it_is_kept_with_the_run(golden):
    run, aside, outcome = golden
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert document["images"] == {"fine": 3, "odd": 3}
    assert (document["added"], document["skipped"]) == (6, [])
    assert len(list((run.folder / "golden").iterdir())) == 6
    shown = run.command("golden", "--json")
    assert (shown.json["images"], shown.json["added"]) == ({"fine": 3, "odd": 3}, 0)
    again = run.command("golden", aside, "--json")
    assert again.code == 4
    assert again.json["skipped"][0]["reason"] == "it is in the golden set already"


def test_update_refuses_its_images_and_near_copies_by_name(golden, tmp_path):
    run, aside, _ = golden
    fine, other = sorted((aside / "fine").iterdir())[:2]
    shutil.copytree(aside / "fine", tmp_path / "normal")
    (tmp_path / "normal" / other.name).unlink()
    saved_again(other, tmp_path / "normal" / "again.png")
    refused = run.command("update", "--normal", tmp_path / "normal")
    assert refused.code == 3
    assert f"{fine.name} is not used: it is in the golden set ({fine}), which never trains" in refused.said
    assert (
        f"again.png is not used: it is nearly the same picture as {other} of the golden set" in refused.said
    )
    assert not (run.folder / "added.json").exists()


def test_train_all_refuses_a_data_set_that_holds_one(golden, tmp_path):
    run, aside, _ = golden
    source = sorted((aside / "odd" / "blotch").iterdir())[0]
    target = run.dataset / "train" / "odd" / "put_there_later.png"
    assert target.parent.is_dir()
    shutil.copy(source, target)
    try:
        refused = run.command("train-all")
    finally:
        target.unlink()
    assert refused.code == 3
    assert "put_there_later.png is in the golden set" in refused.said


def test_what_trains_cannot_be_golden(golden, tmp_path):
    run, _, _ = golden
    source = sorted((run.dataset / "train" / "fine").iterdir())[0]
    shutil.copytree(
        source.parent, tmp_path / "same" / "fine", ignore=lambda _, names: set(names) - {source.name}
    )
    saved_again(source, tmp_path / "same" / "fine" / "brighter.png")
    refused = run.command("golden", tmp_path / "same")
    assert refused.code == 3
    assert "the same file trains as" in refused.said
    assert "nearly the same picture trains as" in refused.said


def test_images_without_a_label_are_refused(golden, tmp_path):
    run, aside, _ = golden
    refused = run.command("golden", aside / "fine")
    assert refused.code == 3
    assert "nobody says what" in refused.said


def test_versus_shows_its_figures(golden, command):
    run, aside, outcome = golden
    model = run.folder / "model.onnx"
    document = command("versus", model, model, aside, "--golden", outcome.json["golden"], "--json").json
    assert document["golden"]["images"] == 6
    assert document["golden"]["figures"]["images"] == {"fine": 3, "odd": 3}
    assert {row["name"] for row in document["golden"]["by_kind"]} == {"fine", "odd: blotch"}


def test_it_is_given_up(golden, tmp_path):
    run = golden[0].copy(tmp_path)
    done = run.command("golden", "--remove", "--json")
    assert (done.code, done.json["images"]) == (0, {"fine": 0, "odd": 0})
    assert not (run.folder / "golden.json").exists()
    assert run.command("golden", "--remove").code == 2
