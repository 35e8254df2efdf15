"""``update`` as users call it: what rises, what falls, what is refused, what a kill leaves, what is kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from PIL import Image

from contracts.errors import ModelError
from contracts.files import read_arrays, read_json, write_json
from imagedata.manifest_row import ManifestRow
from imagedata.spec import DataSpec
from oneclass.patchcore.member import PatchCore
from tests.conftest import Outcome, Run, run_command
from tests.pictures import picture, write_two_classes
from workflow.ensembling.compared_run import ComparedRun
from workflow.run.features import load_backbones
from workflow.run.feedback import FeedbackImage, FeedbackImages, RowGuard, folds_of_feedback
from workflow.run.prepared import load_prepared
from workflow.settings.config import RunOptions, resolve_config

ROOT = Path(__file__).parents[3]
N_NEW = 5
N_TRAIN = 57


def write_spots(folder: Path, colour: tuple[float, float, float], radius: float, seed: int) -> Path:
    """Striped images with a spot that training knows in neither class."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(N_NEW):
        pixels = picture(rng, odd=False).astype(np.float64)
        y, x = np.mgrid[0:48, 0:48]
        centre = rng.uniform(14, 34, 2)
        near = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * radius**2))
        pixels += near[:, :, None] * np.array(colour)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``fine`` (blue spots, which the model flags) and ``missed`` (faint odd ones)."""
    folder = tmp_path_factory.mktemp("given")
    write_spots(folder / "fine", (26.0, 65.0, 130.0), 6.0, seed=1)
    write_spots(folder / "missed", (60.0, 42.0, 12.0), 3.0, seed=2)
    return folder


def killed(run: Run, moment: str, *arguments: object) -> int:
    """``update`` in a process of its own, killed at a moment; see killed_run.py."""
    words = [
        sys.executable,
        Path(__file__).parents[1] / "stories" / "killed_run.py",
        moment,
        "update",
        run.dataset,
    ]
    words += [*arguments, "--recipe", run.recipe, "--runs", run.runs]
    done = subprocess.run(
        [str(word) for word in words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.returncode


@pytest.fixture(scope="module")
def updated(
    fitted: tuple[Run, Outcome], given: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Outcome]:
    """A fitted run whose update was stopped at the worst moments, one by one, and then went through."""
    run = fitted[0].copy(tmp_path_factory.mktemp("updated"))
    arguments = ("--normal", given / "fine", "--missed", given / "missed")
    model, document = run.folder / "model.onnx", (run.folder / "metrics.json").read_bytes()
    before = model.read_bytes()

    def interrupt(*_):
        raise KeyboardInterrupt

    def fail_the_gate(*_, **__):
        raise ModelError("export, parity gate: stage ensemble: the file is not kept.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeedbackImages, "write", interrupt)
        assert run.command("update", *arguments).code == 130
    # Images are copied, but nothing says so: the run is as it was.
    assert not (run.folder / "added.json").exists()
    assert run.command("ensemble").said.count("Nothing to do") == 1
    if os.name == "posix":
        assert killed(run, "taking-in", *arguments) == -signal.SIGKILL
        assert (run.folder / "added.json").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workflow.ensembling.model_file.export_model", fail_the_gate)
        assert run.command("update", *arguments).code == 5
    assert model.read_bytes() == before
    outcome = run.command("update", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    assert (run.folder / "metrics.json").read_bytes() != document
    return run, outcome


# ---- what it does


def test_missed_images_rise_and_false_alarms_fall_in_the_new_file(updated, fitted, given, tmp_path):
    run, outcome = updated
    kept = Path(outcome.json["replaced"])
    assert kept.read_bytes() == (fitted[0].folder / "model.onnx").read_bytes()
    p = {}
    for name, model in (("before", kept), ("after", run.folder / "model.onnx")):
        scored = run_command("score", model, given, "--output", tmp_path / name)
        assert scored.code == 0, scored.err
        rows = pads.dataset(tmp_path / name).to_table().to_pylist()
        p[name] = {row["path"]: row["probability"] for row in rows}
    assert len(outcome.json["images"]) == 2 * N_NEW
    for image in outcome.json["images"]:
        path = image["path"]
        assert image["probability_before"] == pytest.approx(p["before"][path], abs=1e-6)
        assert image["probability_after"] == pytest.approx(p["after"][path], abs=1e-6)
        is_missed = "/missed/" in path
        assert image["label"] == ("odd" if is_missed else "fine")
        assert (p["after"][path] > p["before"][path]) == is_missed
        assert image["decision_before"] == ("fine" if is_missed else "odd")
    assert "odd" not in [i["decision_after"] for i in outcome.json["images"] if i["label"] == "fine"]


def test_document_says_what_was_done(updated, fitted):
    run, outcome = updated
    document = outcome.json
    assert list(document) == [
        "dataset",
        "recipe",
        "model",
        "replaced",
        "added",
        "added_in_all",
        "skipped",
        "images",
        "taken_in",
        "measured",
        "figures",
        "regime",
        "joined_training",
        "threshold",
        "seconds",
    ]
    assert document["added_in_all"] == {"normal": N_NEW, "missed": N_NEW}
    assert list(document["taken_in"]) == ["patchcore"]
    assert document["taken_in"]["patchcore"] > 0
    after = {row["name"]: row for row in read_json(run.folder / "metrics.json")["document"]["rows"]}
    before = {row["name"]: row for row in fitted[1].json["rows"]}
    for metric, pair in document["figures"].items():
        assert pair == [before["ensemble"][metric], after["ensemble"][metric]]
    assert "They are a biased sample" in outcome.said
    assert "5 false alarms and 5 missed images added by update count as one row each" in outcome.said


def test_no_member_was_trained_and_held_out_rows_are_the_same(updated, fitted):
    run, before = updated[0], fitted[0]
    was, now = before.fit_bytes(), run.fit_bytes()
    assert {name for name in now if name not in was} == {
        f"{name}/added.npz" for name in ("patchcore", "deep_svdd", "cnn", "cnn_weighted")
    }
    assert all(now[name] == was[name] for name in was)
    held_out = [pq.read_table(r.folder / "test.parquet").to_pydict() for r in (before, run)]
    for column in ("path", "label", "fold", "score_cnn", "score_deep_svdd"):
        assert held_out[0][column] == held_out[1][column]
    # The grown bank scores them anew, and never higher.
    scores = [np.array(table["score_patchcore"]) for table in held_out]
    assert (scores[1] <= scores[0] + 1e-5).all()


def test_added_rows_stand_behind_the_training_rows(updated, given):
    run = updated[0]
    table = pq.read_table(run.folder / "oof.parquet").to_pydict()
    assert len(table["path"]) == N_TRAIN + 2 * N_NEW
    assert all(path.startswith("added/") for path in table["path"][N_TRAIN:])
    assert sorted(table["label"][N_TRAIN:]) == ["fine"] * N_NEW + ["odd"] * N_NEW
    assert set(table["fold"]) == {0, 1, 2}
    copies = {path.read_bytes() for path in (run.folder / "added").iterdir()}
    assert copies == {path.read_bytes() for path in given.rglob("*.png")}
    # The same rows behind compare and report.
    config = resolve_config(RunOptions(str(run.dataset), recipe=str(run.recipe), runs=run.runs))
    np.testing.assert_array_equal(ComparedRun(config).oof.row_ids, table["path"])


def test_no_row_is_scored_by_a_bank_that_holds_it(updated):
    run = updated[0]
    config = resolve_config(RunOptions(str(run.dataset), recipe=str(run.recipe), runs=run.runs))
    table = pq.read_table(run.folder / "oof.parquet").to_pydict()
    scored = dict(zip(table["path"], table["score_patchcore"], strict=True))
    fold = dict(zip(table["path"], table["fold"], strict=True))
    data = load_prepared(config)
    [backbone] = load_backbones(config, {config.recipe.backbone}).values()
    arrays, meta = read_arrays(run.folder / "members" / "patchcore" / "final.npz")
    state = {name.removeprefix("state/"): value for name, value in arrays.items()}

    def member_with(added: list[ManifestRow]) -> PatchCore:
        member = PatchCore(config.member("patchcore").settings).restore(state, meta["state_meta"])
        if added:
            member.add_normal(backbone.rows(data, added, config.decode))
        return member

    normal = [row for row in data.added if row.label == "fine"]
    assert len({fold[row.path] for row in normal}) > 1
    for row in normal:
        others = [other for other in normal if fold[other.path] != fold[row.path]]
        own = backbone.rows(data, [row], config.decode)
        honest = member_with(others).score(own)[0, 0]
        assert scored[row.path] == pytest.approx(honest, rel=1e-5)
        # By a bank that holds it, it would look far more normal than it is.
        assert member_with([*others, row]).score(own)[0, 0] < 0.9 * honest
    missed = [row for row in data.added if row.label == "odd"]
    shipped = member_with(normal).score(backbone.rows(data, missed, config.decode))[:, 0]
    np.testing.assert_allclose([scored[row.path] for row in missed], shipped, rtol=1e-5)


# ---- again, in parts, and taken back


def test_the_same_images_again_are_a_no_op_that_says_so(updated, given):
    run, first = updated
    files = [run.folder / name for name in ("model.onnx", "added.json", "metrics.json")]
    before = [path.stat().st_mtime_ns for path in files]
    outcome = run.command("update", "--missed", given / "missed", "--json")
    assert outcome.code == 0
    assert "Nothing to do: all 5 images were added before" in outcome.said
    assert outcome.json["added"] == {"normal": 0, "missed": 0}
    missed = [image for image in first.json["images"] if image["label"] == "odd"]
    for again, image in zip(outcome.json["images"], missed, strict=True):
        assert again["path"] == image["path"]
        for name in ("probability_before", "probability_after"):
            assert again[name] == pytest.approx(image[name], abs=1e-5)
    assert [path.stat().st_mtime_ns for path in files] == before
    assert "Nothing to do" in run.command("ensemble").said


@pytest.fixture
def without_export(monkeypatch):
    """The export has tests of its own; what counts here is what comes before."""
    monkeypatch.setattr(
        "workflow.ensembling.model_file.export_model", lambda *given, **options: {"sha256": "none"}
    )
    monkeypatch.setattr("workflow.updating.update.print_effects", lambda *_: None)
    monkeypatch.setattr("workflow.updating.update.effects", lambda *_: {"skipped": []})


def test_updates_accumulate_in_any_order(updated, fitted, given, tmp_path, without_export):
    run = fitted[0].copy(tmp_path)
    assert run.command("update", "--missed", given / "missed").code == 0
    assert run.command("update", "--normal", given / "fine").code == 0
    added = read_json(run.folder / "added.json")
    assert [row["update"] for row in added["rows"]] == [0] * N_NEW + [1] * N_NEW
    assert added["digest"] == read_json(updated[0].folder / "added.json")["digest"]
    for name in ("ensemble.json", "oof.parquet", "test.parquet"):
        assert (run.folder / name).read_bytes() == (updated[0].folder / name).read_bytes()
    for name in ("patchcore", "cnn"):
        results = [read_arrays(r.folder / "members" / name / "added.npz") for r in (run, updated[0])]
        assert results[0][1] == results[1][1]
        assert all((results[0][0][key] == results[1][0][key]).all() for key in results[0][0])


def test_without_its_list_a_run_is_what_it_was(updated, fitted, tmp_path, without_export):
    run = updated[0].copy(tmp_path)
    (run.folder / "added.json").unlink()
    assert run.command("ensemble").code == 0
    for name in ("ensemble.json", "oof.parquet", "test.parquet"):
        assert (run.folder / name).read_bytes() == (fitted[0].folder / name).read_bytes()


def test_training_again_keeps_added_images_and_says_so(updated, tmp_path, without_export):
    run = updated[0].copy(tmp_path)
    outcome = run.command("train-all", "-o", "members.patchcore.bank_size=50")
    assert "10 feedback images are kept" in outcome.said
    assert run.command("ensemble", "-o", "members.patchcore.bank_size=50").code == 0
    was, now = (pq.read_table(r.folder / "oof.parquet").to_pydict() for r in (updated[0], run))
    assert len(now["path"]) == N_TRAIN + 2 * N_NEW
    assert now["score_cnn"] == was["score_cnn"]
    assert now["score_patchcore"][N_TRAIN:] != was["score_patchcore"][N_TRAIN:]
    assert np.isfinite(now["score_patchcore"]).all()


def test_torn_cached_result_is_computed_again(updated, tmp_path):
    run = updated[0].copy(tmp_path)
    path = run.folder / "members" / "patchcore" / "added.npz"
    whole = read_arrays(path)
    path.write_bytes(path.read_bytes()[:300])
    config = resolve_config(RunOptions(str(run.dataset), recipe=str(run.recipe), runs=run.runs))
    ComparedRun(config).fit()
    again = read_arrays(path)
    assert again[1] == whole[1]
    assert all((again[0][name] == whole[0][name]).all() for name in whole[0])


def test_an_edited_list_is_refused(updated, tmp_path):
    run = updated[0].copy(tmp_path)
    document = read_json(run.folder / "added.json")
    document["rows"][0]["label"] = "odd"
    write_json(run.folder / "added.json", document)
    outcome = run.command("ensemble")
    assert outcome.code == 5
    assert "added.json: it does not match its own digest" in outcome.said


# ---- what is refused


def test_images_that_may_not_enter_are_named_and_the_others_are_used(
    updated, tmp_path, given, without_export
):
    run = updated[0].copy(tmp_path)
    train, test = run.dataset / "train" / "odd" / "001.png", run.dataset / "test" / "odd" / "002.png"
    folder = tmp_path / "more"
    folder.mkdir()
    shutil.copy(train, folder / "a-train.png")
    shutil.copy(test, folder / "b-test.png")
    (folder / "c-broken.png").write_bytes(b"\x89PNG broken")
    (folder / "d-empty.jpg").write_bytes(b"")
    shutil.copy(given / "fine" / "0.png", folder / "e-fine.png")
    shutil.copy(given / "missed" / "0.png", folder / "f-before.png")
    write_spots(tmp_path / "new", (90.0, 20.0, 90.0), 4.0, seed=9)
    shutil.copy(tmp_path / "new" / "0.png", folder / "g-new.png")
    shutil.copy(tmp_path / "new" / "0.png", folder / "h-again.png")
    bank = run.folder / "added.json"
    outcome = run.command("update", "--missed", folder)
    said = outcome.said
    for name, reason in (
        ("a-train.png", f"the same file as the training image {train.relative_to(run.dataset)}"),
        ("b-test.png", f"the same file as the test image {test.relative_to(run.dataset)}"),
        ("c-broken.png", "not an image that Pillow can identify"),
        ("d-empty.jpg", "file is empty"),
        ("e-fine.png", "it was added as fine before"),
        ("h-again.png", f"the same file as {folder / 'g-new.png'}"),
    ):
        assert f"{folder / name} is not used: {reason}" in said
    assert "f-before.png is not used" not in said
    assert [Path(row["given"]).name for row in read_json(bank)["rows"][2 * N_NEW :]] == ["g-new.png"]


def test_some_refused_is_exit_code_4_and_none_usable_is_3(updated, given, tmp_path):
    run = updated[0].copy(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(given / "missed" / "0.png", folder / "whole.png")
    (folder / "broken.png").write_bytes(b"GIF8")
    outcome = run.command("update", "--missed", folder, "--json")
    assert outcome.code == 4
    [skipped] = outcome.json["skipped"]
    assert skipped["path"] == str(folder / "broken.png")
    before = (run.folder / "added.json").read_bytes()
    (folder / "whole.png").unlink()
    outcome = run.command("update", "--missed", folder, "--json")
    assert outcome.code == 3
    assert outcome.out == ""
    assert f"none of 1 images can be used; the first: {folder / 'broken.png'}" in outcome.said
    assert (run.folder / "added.json").read_bytes() == before


def test_both_a_false_alarm_and_missed_is_refused(updated, tmp_path):
    folder = write_spots(tmp_path / "new", (90.0, 20.0, 90.0), 4.0, seed=9)
    outcome = updated[0].command("update", "--normal", folder, "--missed", folder)
    assert outcome.code == 3
    assert "the same file is given as --normal and as --missed" in outcome.said


def test_images_of_other_endings_are_named(updated, tmp_path):
    folder = write_spots(tmp_path / "new", (90.0, 20.0, 90.0), 4.0, seed=9)
    image = next(path for path in folder.rglob("*") if path.is_file())
    (folder / "more.PNG.bak").write_bytes(image.read_bytes())
    outcome = updated[0].command("update", "--normal", folder, "--missed", folder)
    assert "Left out: 1 image ends in .bak (1)" in outcome.said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "no images named. Give --normal FOLDER"),
        (["--normal", "nowhere"], 2, "--normal nowhere: does not exist"),
        (["--missed", "EMPTY"], 3, "holds no images"),
        (["--misssed", "x"], 2, "No such option"),
    ],
)
def test_mistakes_are_one_sentence(fitted, tmp_path, arguments, code, said):
    arguments = [tmp_path if word == "EMPTY" else word for word in arguments]
    outcome = fitted[0].command("update", *arguments)
    assert outcome.code == code, outcome.err
    assert said in outcome.said
    assert outcome.out == ""


def test_there_must_be_a_finished_ensemble(trained: Run, tiny: Run, given, tmp_path):
    outcome = trained.command("update", "--missed", given / "missed")
    assert outcome.code == 5
    assert f"First run: python cli.py ensemble {trained.dataset}" in outcome.said
    nothing = Run(tiny.dataset, tiny.recipe, tmp_path / "runs").command(
        "update", "--missed", given / "missed"
    )
    assert nothing.code == 5
    assert "nothing trained there yet. First run: python cli.py train-all" in nothing.said


def test_false_alarms_of_three_classes_have_no_label(tiny: Run, given, tmp_path):
    write_two_classes(tmp_path / "three", 6, 3)
    shutil.copytree(tmp_path / "three" / "fine", tmp_path / "three" / "good")
    outcome = run_command(
        "update", tmp_path / "three", "--normal", given / "fine", "--minority", "odd", "--recipe", tiny.recipe
    )
    assert outcome.code == 2
    assert "--normal: three has 3 classes, and which one these images belong to is unknown" in outcome.said


# ---- what may stand beside a run's rows


def manifest_row(path: str, group: str, sha256: str, split: str = "train") -> ManifestRow:
    return ManifestRow(path, "fine", group, split, sha256, 9, 9, "RGB", "ok", "")


def test_groups_that_members_have_seen_are_refused():
    spec = DataSpec.model_validate(
        {
            "name": "x",
            "layout": {"kind": "class_folders", "train": "{class}"},
            "classes": ["fine", "odd"],
            "minority": "odd",
            "group": "lot(\\d+)",
        }
    )
    train, test = [manifest_row("lot1/a.png", "1", "s1")], [manifest_row("lot2/b.png", "2", "s2", "test")]
    guard = RowGuard(spec, train, test)
    assert guard.objection("lot1/new.png", "n1").startswith("group 1 has training images")
    assert guard.objection("lot2/new.png", "n2").startswith("group 2 has test images")
    assert (
        guard.objection("new.png", "n3") == "the data set's group rule 'lot(\\d+)' finds no group in its path"
    )
    assert guard.objection("lot3/new.png", "s1") == "the same file as the training image lot1/a.png"
    assert guard.objection("lot3/new.png", "n4") == ""
    assert guard.group_of("lot3/new.png", "n4") == "3"
    # An added image that a later training contains is new to its members no longer.
    rows = tuple(
        FeedbackImage(sha, "odd", f"/in/{path}", path, f"{sha}.png", 9, 9, "RGB", 0)
        for sha, path in (("n5", "lot5/a.png"), ("s1", "lot6/b.png"), ("n6", "lot1/c.png"))
    )
    usable, reasons = FeedbackImages(rows, ("",)).usable(spec, train, test)
    assert [(row.path, row.group, row.split) for row in usable] == [("added/n5.png", "5", "added")]
    assert list(reasons) == ["/in/lot1/c.png", "/in/lot6/b.png"]


def test_folds_of_feedback_rows_follow_from_their_groups_alone():
    rows = [manifest_row(f"{i}.png", str(i // 2), f"{i}") for i in range(40)]
    folds = folds_of_feedback(rows, 5)
    assert (folds[0::2] == folds[1::2]).all()
    assert set(folds) == set(range(5))
    np.testing.assert_array_equal(folds_of_feedback(rows[7:21], 5), folds[7:21])
