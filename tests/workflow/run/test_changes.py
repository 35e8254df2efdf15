"""A data set that changed, moved or was renamed after training is noticed, and nothing else is."""

from __future__ import annotations

import os
import shutil

import pytest
from PIL import Image

from contracts.files import read_json
from imagedata import inspection
from tests.conftest import Outcome, Run, run_command

FINE, ODD = "train/fine/003.png", "train/odd/002.png"


@pytest.fixture
def run(fitted: tuple[Run, Outcome], tmp_path) -> Run:
    """A finished run whose data set is its own and already known at its place."""
    mine = fitted[0].copy(tmp_path, with_dataset=True)
    assert mine.command("ensemble").code == 0
    return mine


def changed(outcome: Outcome) -> dict[str, object] | None:
    assert outcome.code == 0, outcome.err
    return outcome.json.get("data_changed")


def replace(run: Run, path: str) -> None:
    Image.new("RGB", (80, 80), (1, 2, 3)).save(run.dataset / path)


# ---- what changed


@pytest.mark.parametrize("command", ["ensemble", "export"])
def test_added_removed_and_replaced_images_are_counted_and_named(run: Run, command):
    shutil.copyfile(run.dataset / FINE, run.dataset / "train" / "fine" / "new.png")
    replace(run, "train/fine/005.png")
    (run.dataset / ODD).unlink()
    outcome = run.command(command, "--json")
    found = changed(outcome)
    assert found is not None
    assert [found[kind] for kind in ("added", "removed", "replaced", "relabelled")] == [1, 1, 1, 0]
    assert found["examples"] == {
        "added": ["train/fine/new.png"],
        "removed": [ODD],
        "replaced": ["train/fine/005.png"],
    }
    assert found["taken_in"] is False
    assert (
        "1 image added (train/fine/new.png), 1 removed (train/odd/002.png), 1 replaced (train/fine/005.png)"
    ) in outcome.said
    assert f"run: python cli.py train-all {run.dataset}" in outcome.said
    # What was trained stays as it is, and so does the document that the run folder keeps.
    assert "data_changed" not in read_json(run.folder / "metrics.json")["document"]


def test_each_command_about_a_run_notices(run: Run, tmp_path):
    replace(run, FINE)
    image = run.dataset / "test" / "odd" / "003.png"
    for command, *arguments in (
        ("report", "--no-pictures"),
        ("explain", image),
        ("parity",),
        ("update", "--missed", image),
    ):
        outcome = run.command(command, *arguments, "--json")
        # An image of the test set cannot be added, but what changed is said before.
        assert "1 image replaced (train/fine/003.png). This command goes on" in outcome.said, command


def test_training_takes_the_changes_in(run: Run):
    shutil.copyfile(run.dataset / "test" / "odd" / "003.png", run.dataset / "train" / "odd" / "new.png")
    outcome = run.command("compare", "--json")
    found = changed(outcome)
    assert found is not None
    assert found["taken_in"] is True
    assert "This command trains on the changed data set" in outcome.said
    assert changed(run.command("compare", "--json")) is None


def test_class_without_images_is_a_finding_and_the_finished_run_is_still_shown(run: Run):
    shutil.rmtree(run.dataset / "train" / "odd")
    (run.dataset / "train" / "odd").mkdir()
    found = changed(run.command("ensemble", "--json"))
    assert found is not None
    assert found["removed"] == 12


# ---- what is no change


def test_nothing_is_said_of_an_unchanged_data_set_and_no_file_is_read(run: Run, monkeypatch):
    def never(*_arguments):
        raise AssertionError("an unchanged file is read")

    monkeypatch.setattr(inspection, "sha256_of_file", never)
    outcome = run.command("ensemble", "--json")
    assert changed(outcome) is None
    assert "The data set changed" not in outcome.said


def test_touched_files_and_files_that_are_no_images_are_no_change(run: Run, monkeypatch):
    for path in (run.dataset / "train" / "fine").iterdir():
        os.utime(path)
    for name in ("Thumbs.db", ".DS_Store", "._003.png", "desktop.ini", "notes.txt"):
        (run.dataset / "train" / "fine" / name).write_bytes(b"junk")
    (run.dataset / ".hidden").mkdir()
    shutil.copyfile(run.dataset / FINE, run.dataset / ".hidden" / "003.png")
    assert run_command("check", run.dataset, "--runs", run.runs).code in {0, 3}
    assert changed(run.command("ensemble", "--json")) is None

    # The journal knows the touched files from now on.
    monkeypatch.setattr(inspection, "sha256_of_file", None)
    assert changed(run.command("ensemble", "--json")) is None


# ---- moved


def test_moved_data_set_is_taken_up_without_training(fitted: tuple[Run, Outcome], tmp_path, monkeypatch):
    before, first = fitted
    run = before.copy(tmp_path, with_dataset=True)
    monkeypatch.setattr(inspection, "inspect_file", None)  # nothing is decoded
    fits = before.fit_bytes()
    outcome = run.command("ensemble", "--json")
    assert outcome.code == 0, outcome.err
    assert f"The data set moved from {before.dataset} to {run.dataset}" in outcome.said
    assert "Nothing to do" in outcome.said
    assert run.fit_bytes() == fits
    assert outcome.json == first.json | {"model": outcome.json["model"]}
    # It is said and compared once.
    again = run.command("ensemble")
    assert "moved" not in again.said
    assert run.command("export").code == 0


def test_moved_data_set_with_one_other_image_is_another_data_set(fitted: tuple[Run, Outcome], tmp_path):
    run = fitted[0].copy(tmp_path, with_dataset=True)
    replace(run, FINE)
    outcome = run.command("ensemble")
    assert outcome.code == 5
    assert f"1 of its 77 images differ there (the first: {FINE})" in outcome.said
    (run.dataset / FINE).unlink()
    assert f"1 of its 77 images are missing there (the first: {FINE})" in run.command("ensemble").said
    assert read_json(run.folder / "config.json") == read_json(fitted[0].folder / "config.json")


def test_renamed_data_set_keeps_its_run_by_its_old_name(fitted: tuple[Run, Outcome], tmp_path, monkeypatch):
    monkeypatch.setenv("OUTNUMBERED_SPECS", str(tmp_path / "specs"))
    run = fitted[0].copy(tmp_path, with_dataset=True)
    renamed = run.dataset.rename(tmp_path / "spots")
    options = ("--recipe", run.recipe, "--runs", run.runs)
    outcome = run_command("ensemble", renamed, *options)
    assert outcome.code == 5
    add = f"datasets add blotches --folder {renamed} --minority odd"
    assert f"keep its old one: python cli.py {add}; then go on by name" in outcome.said
    assert run_command(*add.split()).code == 0
    again = run_command("ensemble", "blotches", *options, "--json")
    assert again.code == 0, again.err
    assert "Nothing to do" in again.said
    assert again.json["rows"] == fitted[1].json["rows"]


def test_moved_list_is_taken_up_with_its_images(tiny: Run, tmp_path):
    from workflow.run.prepared import load_prepared, prepare_data, save_prepared
    from workflow.settings.config import RunOptions, resolve_config

    first = tmp_path / "first"
    shutil.copytree(tiny.dataset, first)
    lines = [f"{path.relative_to(first)},{path.parent.name}" for path in sorted(first.rglob("*.png"))]
    (first / "images.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    options = {"recipe": str(tiny.recipe), "runs": tmp_path / "runs"}
    config = resolve_config(RunOptions(dataset=str(first / "images.csv"), **options))
    data = prepare_data(config)
    save_prepared(config, data)
    second = first.rename(tmp_path / "second")
    moved = load_prepared(resolve_config(RunOptions(dataset=str(second / "images.csv"), **options)))
    assert moved.manifest.root == second
    assert (moved.train, moved.test) == (data.train, data.test)


def test_relabelled_images_of_a_list_are_a_change(tiny: Run, tmp_path):
    from workflow.run.changes import data_changes
    from workflow.run.prepared import prepare_data, save_prepared
    from workflow.settings.config import RunOptions, resolve_config

    table = tmp_path / "images.csv"
    files = sorted(tiny.dataset.rglob("*.png"))
    lines = [f"{path},{path.parent.name}" for path in files]
    table.write_text("\n".join(["path,label", *lines]) + "\n")
    options = RunOptions(dataset=str(table), recipe=str(tiny.recipe), runs=tmp_path / "runs")
    config = resolve_config(options)
    save_prepared(config, prepare_data(config))
    assert data_changes(options, trains=False) is None
    lines[0] = f"{files[0]},odd"
    table.write_text("\n".join(["path,label", *lines]) + "\n")
    found = data_changes(options, trains=False)
    assert found is not None
    assert (found["relabelled"], found["replaced"], found["added"]) == (1, 0, 0)


def test_masked_images_are_compared_by_what_they_were_made_of(tmp_path):
    """The manifest holds the digests of the masked files; the user's are those they were made of."""
    from imagedata.decoding.decode import DecodeSettings
    from imagedata.materialise import Folders, materialise
    from imagedata.spec import DataSpec
    from reporting.terminal import progress_bar
    from workflow.run.file_changes import changes_since

    source = tmp_path / "set"
    for name, count in (("fine", 8), ("odd", 8)):
        for number in range(count):
            for kind, ending in (("images", "jpg" if number % 2 else "png"), ("masks", "png")):
                file = source / kind / name / f"{number}.{ending}"
                file.parent.mkdir(parents=True, exist_ok=True)
                grey = 255 if kind == "masks" else 20 * number + (5 if name == "odd" else 0)
                Image.new("L", (16, 16), grey).save(file)
    layout = {"kind": "class_folders", "train": "images/{class}", "region_masks": "masks/{class}"}
    spec = DataSpec(name="masked", layout=layout, classes=["fine", "odd"], minority="odd")
    folders, decode = Folders(source, tmp_path / "runs"), DecodeSettings(16)
    manifest = materialise(spec, folders, decode, 0, progress_bar)
    assert not changes_since(spec, folders, source, manifest, decode)
    Image.new("L", (16, 16), 250).save(source / "images" / "fine" / "1.jpg")
    found = changes_since(spec, folders, source, manifest, decode)
    assert (found.replaced, found.added, found.removed) == (("images/fine/1.jpg",), (), ())
