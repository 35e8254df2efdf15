"""The commands as users call them: help, exit codes, one sentence for each mistake, clean standard output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cli
from tests import fixtures_onnx, hostile
from tests.conftest import Outcome, Run, run_command
from tests.pictures import write_pictures, write_two_classes

ROOT = Path(__file__).parents[1]
COMMANDS = [place.split(".")[1].replace("_", "-") for place in cli.COMMANDS]
HEAVY = [
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "sklearn",
    "scipy",
    "onnxruntime",
    "onnx",
    "pandas",
    "anomalib",
    "pyarrow",
    "mlflow",
    "sqlalchemy",
]


def python(code: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def as_program(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "cli.py", *map(str, arguments)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refuse(code: int, said: str, *arguments: object) -> str:
    """Run a command that must fail with one sentence; returns what it said in one line."""
    outcome = run_command(*arguments)
    assert outcome.out == ""
    assert outcome.code == code, outcome.err
    assert outcome.err.startswith("Error: ")
    assert said in outcome.said
    return outcome.said


# ---- help


def test_help_of_every_command_imports_nothing_heavy():
    code = """
import contextlib, io, json, sys
import cli
codes, texts = [], []
for arguments in [["--help"], *([name, "--help"] for name in sys.argv[2:])]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        codes.append(cli.main(arguments))
    texts.append(len(out.getvalue()))
print(json.dumps([codes, texts, [name for name in json.loads(sys.argv[1]) if name in sys.modules]]))
"""
    done = python(code, json.dumps(HEAVY), *COMMANDS)
    codes, lengths, heavy = json.loads(done.stdout)
    assert codes == [0] * (1 + len(COMMANDS))
    assert min(lengths) > 100
    assert heavy == []


def test_help_names_every_command():
    outcome = run_command("--help")
    assert outcome.code == 0
    assert all(name in outcome.out for name in COMMANDS)


def test_no_command_shows_the_help():
    outcome = run_command()
    assert "train-all" in outcome.out + outcome.err
    assert outcome.code in {0, 2}


def test_file_can_be_run_from_anywhere(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [ROOT / "cli.py", "--help"],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "train-all" in done.stdout


# ---- usage


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian-all"], "No such command 'trian-all'"),
        (["train-all"], "Missing argument 'dataset'"),
        (["train", "gender"], "Missing argument 'member'"),
        (["train-all", "gender", "--sed", "3"], "No such option"),
        (["train-all", "gender", "--seed", "-1"], "Invalid value for '--seed'"),
        (["train-all", "gender", "--seed", "x"], "Invalid value for '--seed'"),
        (["train-all", "gender", "--device", "tpu"], "'tpu' is not one of"),
        (["train-all", "covd"], "data set 'covd': neither in the catalogue"),
        (["train-all", "/no/such/folder"], "data set '/no/such/folder': no such folder; /no does not exist."),
        (["train-all", "gender", "-o", "fold=3"], "-o fold: unknown key. Did you mean 'folds'?"),
        (["train-all", "gender", "-o", "folds"], "-o 'folds': write key=value"),
        (["train-all", "gender", "--recipe", "quik"], "recipe 'quik': neither one of anomalib, covid_five"),
        (["train-all", "gender", "--minority", "femal"], "Did you mean 'female'?"),
        (["train", "gender", "cn"], "member 'cn': recipe quick has"),
        (["ensemble", "gender", "-o", "threshold=best"], "threshold rule 'best' does not exist"),
    ],
)  # fmt: skip
def test_mistake_on_the_command_line(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    refuse(2, said, *arguments)
    assert list(tmp_path.iterdir()) == []


# ---- data


def test_data_set_that_is_not_there_shows_the_expected_tree(tmp_path):
    said = refuse(
        3, "covid: not found in", "train-all", "covid", "--data", tmp_path, "--runs", tmp_path / "runs"
    )
    assert "covid/COVID-19_Radiography_Dataset/COVID/images/COVID-1.png" in said
    assert "Kaggle" in said


def test_no_data_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("OUTNUMBERED_DATA", raising=False)
    refuse(
        3, "gender: no data directory given. Use --data DIR or set OUTNUMBERED_DATA", "train-all", "gender"
    )


def test_data_directory_by_environment(tmp_path):
    done = as_program("train-all", "gender", OUTNUMBERED_DATA=str(tmp_path))
    assert done.returncode == 3
    assert f"gender: not found in {tmp_path}/gender, {tmp_path}." in done.stderr
    assert "Traceback" not in done.stderr


def test_folder_with_one_class(tmp_path):
    write_pictures(tmp_path / "set" / "only", 3, odd=False, seed=0)
    said = "set: 3 usable training images of only; 5 are the least, one for each of 5 folds. Add 2 or more."
    refuse(3, said, "train-all", tmp_path / "set", "--runs", tmp_path / "runs")
    write_pictures(tmp_path / "set" / "only", 3, odd=False, seed=1, start=3)
    planned_only = planned(tmp_path / "set", tmp_path / "runs")
    assert planned_only.json["classes"] == ["only", "anomalous"]
    assert planned_only.json["regime"] == "normal_only"


def test_folder_of_images_without_labels(tmp_path):
    write_pictures(tmp_path / "set", 9, odd=False, seed=0)
    outcome = planned(tmp_path / "set", tmp_path / "runs")
    assert (outcome.json["regime"], outcome.json["train"]) == ("unlabelled", {"normal": 9, "anomalous": 0})
    assert "Read 9 images without labels." in outcome.said
    assert "None of 9 images is labelled." in outcome.said
    labelled = write_two_classes(tmp_path / "named", 9, 3)
    outcome = planned(labelled, tmp_path / "runs", "--unlabelled")
    assert (outcome.json["regime"], outcome.json["train"]) == ("unlabelled", {"normal": 12, "anomalous": 0})


def planned(folder: Path, runs: Path, *arguments: object) -> Outcome:
    """What a training command would do, which must be possible."""
    small = "backbone={name: test_efficientnet, weights: random, image_size: 64}"
    outcome = run_command("train-all", folder, *arguments, "--runs", runs, "--dry-run", "--json", "-o", small)
    assert outcome.code == 0, outcome.err
    return outcome


def test_minority_without_images(tmp_path):
    write_pictures(tmp_path / "set" / "fine", 5, odd=False, seed=0)
    (tmp_path / "set" / "odd").mkdir()
    outcome = planned(tmp_path / "set", tmp_path / "runs")
    assert (outcome.json["regime"], outcome.json["train"]) == ("normal_only", {"fine": 5, "odd": 0})
    assert outcome.json["deployment_prior"] is None
    assert "All 5 images are normal (fine), so only one-class members are trained." in outcome.said


def test_minority_of_broken_images(tmp_path):
    write_pictures(tmp_path / "set" / "fine", 9, odd=False, seed=0)
    (tmp_path / "set" / "odd").mkdir()
    for number in range(3):
        (tmp_path / "set" / "odd" / f"{number}.jpg").write_bytes(hostile.truncated("JPEG") + bytes([number]))
    outcome = planned(tmp_path / "set", tmp_path / "runs")
    assert outcome.json["regime"] == "normal_only"
    assert "Broken images, left out: 3" in outcome.said


def test_too_few_of_the_majority(tmp_path):
    folder = write_two_classes(tmp_path / "set", 4, 1)
    said = "set: 4 usable training images of fine; 5 are the least, one for each of 5 folds. Add 1 or more."
    refuse(3, said, "train-all", folder, "--runs", tmp_path / "runs")


def test_three_positives_for_five_folds(tmp_path):
    folder = write_two_classes(tmp_path / "set", 30, 3, test=2)
    outcome = planned(folder, tmp_path / "runs")
    assert sorted(outcome.json["minority_per_fold"]) == [0, 0, 1, 1, 1]
    assert outcome.json["measured"] == "test_set"


def test_a_single_image_of_the_minority(tmp_path):
    outcome = planned(write_two_classes(tmp_path / "set", 9, 1), tmp_path / "runs")
    assert outcome.json["train"] == {"fine": 9, "odd": 1}
    assert outcome.json["test"] == {"fine": 0, "odd": 0}
    assert (outcome.json["measured"], outcome.json["repeats"]) == ("cross_validation", 3)
    assert "No test set is held out: there is 1 image" in outcome.said
    assert "recall_claim" in {each["name"] for each in outcome.json["support"]}
    assert "9 independent normal images let p_normal" in outcome.said


def test_minority_that_is_not_obvious(tmp_path):
    folder = write_two_classes(tmp_path / "set", 6, 5)
    refuse(
        2,
        "which class is the minority is not obvious (fine 6, odd 5). Name it with --minority",
        "train-all",
        folder,
    )


def test_place_that_cannot_be_written(tiny: Run, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = run_command(
        "train-all", tiny.dataset, "--recipe", tiny.recipe, "--runs", tmp_path / "file" / "runs"
    )
    assert outcome.code == 3
    assert outcome.said.startswith("Error: ")
    assert "Not a directory" in outcome.said


def test_broken_and_contradicting_images_are_told_and_stay_out(tmp_path):
    folder = write_two_classes(tmp_path / "set", 20, 8, test=2)
    (folder / "train" / "odd" / "half.jpg").write_bytes(hostile.truncated("JPEG"))
    (folder / "train" / "odd" / "twin.png").write_bytes((folder / "train" / "fine" / "000.png").read_bytes())
    outcome = run_command(
        *("train-all", folder, "--runs", tmp_path / "runs", "--dry-run", "--json"),
        *("-o", "folds=2", "-o", "backbone={name: test_efficientnet, weights: random, image_size: 64}"),
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["train"] == {"fine": 19, "odd": 8}
    assert outcome.json["status"] == {"ok": 31, "broken": 1, "excluded": 2}
    assert "Broken images, left out: 1; the first: train/odd/half.jpg:" in outcome.said
    assert (
        "Training images left out because they would leak or contradict others: 2; the first:" in outcome.said
    )
    assert "the same file is labelled fine and odd" in outcome.said


def test_how_a_data_set_was_read_and_what_is_not_used_is_told(tmp_path):
    folder = write_two_classes(tmp_path / "set", 20, 8, test=2)
    (folder / "Val" / "odd").mkdir(parents=True)
    write_two_classes(folder / "aside", 5, 2)
    for name in ("000.png", "001.png"):
        (folder / "aside" / "odd" / name).rename(folder / "Val" / "odd" / name)
    for command in (("train-all", "--dry-run", "-o", "folds=2"), ("check",)):
        outcome = run_command(*command, folder, "--runs", tmp_path / "runs", "--json")
        assert outcome.code == 0, outcome.err
        (sentence,) = outcome.json["reading"]
        assert sentence.startswith("2 validation images join the training images (Val/{class})")
        assert outcome.json["unused_images"] == {"aside/fine": 5}
        assert sentence in outcome.said
        assert "Images of the data set that are not used: 5 (5 in aside/fine)." in outcome.said


def test_bad_rows_of_a_list_are_refused_or_skipped(tmp_path):
    folder = write_two_classes(tmp_path / "set", 12, 6)
    rows = [
        f"set/{path.parent.name}/{path.name};{path.parent.name}" for path in sorted(folder.rglob("*.png"))
    ]
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(["file;class", *rows, "set/gone.png;odd", rows[0]]))
    command = (
        *("train-all", table, "--minority", "ODD", "--runs", tmp_path / "runs", "--dry-run", "--json"),
        *("-o", "folds=3"),
    )
    outcome = run_command(*command)
    assert outcome.code == 3
    assert (
        "2 of 20 rows cannot be used. no such file: 1 (row 20: set/gone.png); repeats another" in outcome.said
    )
    outcome = run_command(*command, "--skip-bad-rows")
    assert outcome.code == 0, outcome.err
    assert sum(outcome.json["train"].values()) + sum(outcome.json["test"].values()) == 18
    assert "Rows of mine.csv that were skipped: 2. no such file: 1; repeats another row: 1." in outcome.said


# ---- machine-readable output


def test_datasets_on_stdout_is_one_document(tmp_path):
    outcome = run_command("datasets", "--data", tmp_path, "--json")
    assert outcome.code == 0
    listed = {entry["name"]: entry for entry in outcome.json}
    assert {"gender", "gender_A", "gender_B", "covid", "elpv"} <= set(listed)
    assert not listed["gender"]["found"]
    assert "covid" in outcome.err
    without = run_command("datasets", "--data", tmp_path)
    assert without.out == ""


@pytest.mark.shared_data
def test_datasets_counts_what_is_there(shared_data):
    listed = {entry["name"]: entry for entry in run_command("datasets", "--data", shared_data, "--json").json}
    assert listed["covid"]["images"] == {"Normal": 500, "COVID": 124}


def test_doctor_reports():
    outcome = run_command("doctor", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["healthy"] is True


def test_doctor_names_what_tracking_lacks(monkeypatch):
    from workflow.inventory import doctor
    from workflow.inventory.versions import version_of

    monkeypatch.setattr(doctor, "version_of", lambda name: None if name == "alembic" else version_of(name))
    outcome = run_command("doctor", "--json")
    assert outcome.json["healthy"] is True
    assert outcome.json["packages"]["alembic"] is None
    assert "pip install -e '.[tracking]'" in outcome.said


# ---- scoring


@pytest.fixture
def model(tmp_path) -> Path:
    return fixtures_onnx.write_two_class_model(tmp_path / "model.onnx")


def test_score_never_imports_torch(model, tmp_path):
    hostile.write_noise_images(tmp_path / "images", 3)
    code = """
import cli, json, sys
if __name__ == "__main__":
    code = cli.main(sys.argv[2:])
    print(json.dumps([code, [name for name in json.loads(sys.argv[1]) if name in sys.modules]]))
"""
    heavy = [name for name in HEAVY if name not in {"onnxruntime", "pyarrow"}]
    arguments = ("score", model, tmp_path / "images", "--output", tmp_path / "out", "--processes", 1)
    done = python(code, json.dumps(heavy), *arguments)
    assert json.loads(done.stdout) == [0, []], done.stderr


def test_some_broken_images_are_exit_code_4(model, tmp_path):
    hostile.write_noise_images(tmp_path / "images", 3)
    (tmp_path / "images" / "broken.png").write_bytes(b"broken")
    outcome = run_command("score", model, tmp_path / "images", "--output", tmp_path / "out", "--json")
    assert outcome.code == 4
    assert (outcome.json["images"], outcome.json["scored"], outcome.json["failed"]) == (4, 3, 1)
    assert "broken.png" in outcome.said


def test_score_takes_patterns_and_columns(model, tmp_path):
    hostile.write_noise_images(tmp_path / "images" / "deeper", 4)
    names = [str(path.relative_to(tmp_path)) for path in sorted((tmp_path / "images").rglob("*.png"))]
    pq.write_table(pa.table({"file": names[:3]}), tmp_path / "some.parquet")
    outcome = run_command("score", model, tmp_path / "**" / "*.png", "--output", tmp_path / "a", "--json")
    assert outcome.json["scored"] == 4
    arguments = (tmp_path / "some.parquet", "--path-column", "file", "--output", tmp_path / "b", "--json")
    assert run_command("score", model, *arguments).json["scored"] == 3
    refuse(2, "no column 'path'", "score", model, tmp_path / "some.parquet", "--output", tmp_path / "c")


def test_path_that_is_no_image(model, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    outcome = run_command("score", model, tmp_path / "notes.txt", "--output", tmp_path / "out", "--json")
    assert outcome.code == 4
    assert outcome.json["failed"] == 1
    assert "notes.txt" in outcome.said


def test_path_that_is_not_there(model, tmp_path):
    outcome = run_command("score", model, tmp_path / "nowhere", "--output", tmp_path / "out")
    assert outcome.code in {2, 3, 4}
    assert "nowhere" in outcome.said


@pytest.mark.parametrize("content", [b"", b"not an ONNX file at all", b"\x08\x07\x12\x00"])
def test_file_that_is_not_our_model(tmp_path, content):
    hostile.write_noise_images(tmp_path / "images", 1)
    (tmp_path / "other.onnx").write_bytes(content)
    refuse(
        5, "other.onnx", "score", tmp_path / "other.onnx", tmp_path / "images", "--output", tmp_path / "out"
    )


def test_model_that_is_not_there(tmp_path):
    refuse(2, "does not exist", "score", tmp_path / "none.onnx", tmp_path, "--output", tmp_path / "out")


def test_program_ends_with_the_code_of_its_command(tmp_path):
    done = as_program("score", tmp_path / "none.onnx", tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
