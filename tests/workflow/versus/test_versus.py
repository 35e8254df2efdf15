"""``versus`` on made-up files whose scores are known: what changed, for whom, and which file is right."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import numpy_helper
from PIL import Image

from tests.conftest import Outcome
from tests.fixtures_onnx import SIZE, write_normal_only_model, write_three_class_model, write_two_class_model

# Grey values and what they are; the old file decides "light" from 127.5 on, the new one from 102 on.
GREYS = {"light/faint": (96, 110, 120), "light/strong": (180, 200, 220, 230), "dark": (20, 40, 60, 80, 106)}
CHANGED = {110, 120, 106}


def write_grey(file: Path, grey: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((SIZE, SIZE, 3), grey, np.uint8)).save(file)
    return file


def write_lower(path: Path, source: Path, half: float = 0.4) -> Path:
    """The same file with another middle, so that darker images are taken for light ones."""
    model = onnx.load(str(source))
    (constant,) = [each for each in model.graph.initializer if each.name == "half"]
    constant.CopyFrom(numpy_helper.from_array(np.asarray(half, np.float32), "half"))
    onnx.save(model, str(path))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    old = write_two_class_model(tmp_path / "old.onnx")
    return old, write_lower(tmp_path / "new.onnx", old)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for folder, greys in GREYS.items():
        for grey in greys:
            write_grey(tmp_path / "images" / folder / f"{grey}.png", grey)
    return tmp_path / "images"


def of(rows: list[dict], **wanted: object) -> dict:
    (found,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return found


def test_decisions_that_change_are_counted_by_kind(files, images, command):
    outcome: Outcome = command("versus", *files, images, "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert (document["images"], document["compared"], document["failed"]) == (12, 12, [])
    assert document["decision"]["changed"] == 3
    assert document["decision"]["pairs"][0] == {"old": "dark", "new": "light", "images": 3}
    assert document["triage"] is None
    assert "Triage is not compared" in outcome.said
    assert of(document["by_kind"], name="light: faint")["decision_changed"] == 2
    assert of(document["by_kind"], name="light: strong")["decision_changed"] == 0
    assert of(document["by_kind"], name="dark")["decision_changed"] == 1
    assert document["by_group"] == []


def test_the_largest_change_is_named(files, images, command):
    document = command("versus", *files, images, "--json").json

    def p(grey: int, half: float) -> float:
        return 1.0 / (1.0 + math.exp(-8.0 * (grey / 255.0 - half)))

    largest = document["largest"][0]
    assert Path(largest["path"]).name == "110.png"  # nearest to the steepest place of both curves
    assert largest["probability_old"] == pytest.approx(p(110, 0.5), abs=1e-6)
    assert largest["change"] == pytest.approx(p(110, 0.4) - p(110, 0.5), abs=1e-6)
    changes = [abs(row["change"]) for row in document["largest"]]
    assert changes == sorted(changes, reverse=True)


def test_figures_of_both_files_are_paired(files, images, command):
    outcome = command("versus", *files, images, "--json")
    figures = outcome.json["figures"]
    assert figures["images"] == {"dark": 5, "light": 7}
    misses, alarms = figures["errors"]
    assert misses == {"what": "misses", "images": 7, "old": 3, "new": 1, "fixed": 2, "added": 0}
    assert alarms == {"what": "false alarms", "images": 5, "old": 0, "new": 1, "fixed": 0, "added": 1}
    # One file is a shifted copy of the other: they rank alike, but not with equal probabilities.
    assert figures["metrics"]["auroc"]["difference"] == [0.0, 0.0, 0.0]
    assert set(figures["metrics"]) == {"auroc", "average_precision", "brier"}
    brier = figures["metrics"]["brier"]
    estimate, low, high = brier["difference"]
    assert estimate == pytest.approx(brier["new"] - brier["old"]) != 0.0
    assert low <= estimate <= high
    assert (
        "too narrow: there are only 5 labelled images of dark and 7 labelled images of light" in outcome.said
    )


def test_a_list_gives_labels_kinds_and_groups(files, images, command, tmp_path):
    lines = ["path,label,kind,group"]
    lines += [f"images/dark/{grey}.png,dark,,lot {grey % 40}" for grey in GREYS["dark"]]
    lines += [f"images/light/faint/{grey}.png,light,faint,lot 20" for grey in GREYS["light/faint"]]
    lines += ["images/light/strong/200.png,,,lot 1"]  # nobody knows
    (tmp_path / "list.csv").write_text("\n".join(lines))
    document = command("versus", *files, tmp_path / "list.csv", "--json").json
    assert document["images"] == 9
    assert document["figures"]["images"] == {"dark": 5, "light": 3}
    assert of(document["by_group"], name="lot 20")["decision_changed"] == 2


def test_folders_that_are_no_classes_are_groups_and_give_no_label(files, command, tmp_path):
    for lot, greys in {"monday": (20, 110), "tuesday": (200,)}.items():
        for grey in greys:
            write_grey(tmp_path / "days" / lot / f"{grey}.png", grey)
    outcome = command("versus", *files, tmp_path / "days", "--json")
    assert outcome.code == 0
    document = outcome.json
    assert document["figures"] is None
    assert "which file is right cannot be said" in outcome.said
    assert of(document["by_group"], name="monday")["decision_changed"] == 1
    assert document["by_kind"] == []


def test_folders_beside_the_normal_one_are_kinds_of_the_minority(files, command, tmp_path):
    for folder, grey in (("dark", 20), ("scratch", 110), ("dent", 200)):
        write_grey(tmp_path / "tree" / folder / "1.png", grey)
    document = command("versus", *files, tmp_path / "tree", "--json").json
    assert document["figures"]["images"] == {"dark": 1, "light": 2}
    assert {row["name"] for row in document["by_kind"]} == {"dark", "light: dent", "light: scratch"}


def test_class_folders_may_lie_in_groups(files, command, tmp_path):
    for group in ("a", "b"):
        for label, grey in (("dark", 20), ("light", 200)):
            write_grey(tmp_path / "tree" / group / label / "1.png", grey)
    document = command("versus", *files, tmp_path / "tree", "--json").json
    assert document["figures"]["images"] == {"dark": 2, "light": 2}
    assert [row["name"] for row in document["by_group"]] == ["a", "b"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_changed_images_are_written(files, images, command, tmp_path, ending):
    target = tmp_path / f"changed.{ending}"
    assert command("versus", *files, images, "--changed", target).code == 0
    if ending == "csv":
        with target.open() as handle:
            rows = list(csv.DictReader(handle))
    else:
        rows = pq.read_table(target).to_pylist()
    assert {int(Path(row["path"]).stem) for row in rows} == CHANGED
    assert {(row["decision_old"], row["decision_new"]) for row in rows} == {("dark", "light")}


def test_a_golden_set_has_figures_of_its_own(files, images, command, tmp_path):
    for label, grey in (("dark", 20), ("dark", 50), ("light", 110), ("light", 240)):
        write_grey(tmp_path / "golden" / label / f"{grey}.png", grey)
    outcome = command("versus", *files, images, "--golden", tmp_path / "golden", "--json")
    golden = outcome.json["golden"]
    assert golden["images"] == 4
    assert golden["figures"]["errors"][0]["fixed"] == 1
    assert "Errors on the golden set" in outcome.err


def test_an_image_that_cannot_be_scored_is_named_and_ends_in_4(files, images, command):
    (images / "dark" / "broken.png").write_bytes(b"no picture")
    outcome = command("versus", *files, images, "--json")
    assert outcome.code == 4
    assert [Path(each["path"]).name for each in outcome.json["failed"]] == ["broken.png"]
    assert outcome.json["compared"] == 12
    assert "1 of 13 images were not compared" in outcome.said


def test_a_first_file_without_a_probability_is_compared_by_p_normal(files, images, command, tmp_path):
    normal_only = write_normal_only_model(tmp_path / "normal.onnx")
    outcome = command("versus", normal_only, normal_only, images, "--json")
    assert outcome.code == 0
    assert outcome.json["quantity"] == "p_normal"
    assert "Both names lead to the same file" in outcome.said
    assert "the old file gives no probability" in outcome.json["figures"]["missing"]
    assert outcome.json["figures"]["errors"][0]["images"] == 7


def test_three_classes_have_macro_figures(images, command, tmp_path):
    old = write_three_class_model(tmp_path / "three.onnx")
    model = onnx.load(str(old))
    for entry in model.metadata_props:
        entry.value = json.dumps({**json.loads(entry.value), "prior": [0.5, 0.3, 0.2]})
    onnx.save(model, str(old))
    lines = ["path,label"]
    classes = ["reddish", "greenish", "bluish"]
    for i, name in enumerate(classes):
        for strength in (120, 200, 250):
            pixels = np.full((SIZE, SIZE, 3), 30, np.uint8)
            pixels[:, :, i] = strength
            Image.fromarray(pixels).save(tmp_path / f"{name}{strength}.png")
            lines.append(f"{name}{strength}.png,{name}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    outcome = command("versus", old, old, tmp_path / "list.csv", "--json")
    assert outcome.code == 0, outcome.err
    figures = outcome.json["figures"]
    assert {"macro_auroc", "macro_average_precision"} <= set(figures["metrics"])
    assert {row["what"] for row in figures["errors"]} == {f"wrong among {name}" for name in classes}


def test_what_cannot_be_compared_is_refused(files, images, command, tmp_path):
    old, new = files
    three = write_three_class_model(tmp_path / "three.onnx")
    refused = command("versus", old, three, images)
    assert (refused.code, "knows the classes dark, light, and" in refused.said) == (2, True)
    refused = command("versus", old, new, tmp_path / "nothing")
    assert (refused.code, "does not exist" in refused.said) == (2, True)
    refused = command("versus", old, tmp_path / "missing.onnx", images)
    assert refused.code == 2
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    assert command("versus", old, tmp_path / "damaged.onnx", images).code == 5
    refused = command("versus", old, new, images, "--changed", tmp_path / "changed.txt")
    assert (refused.code, "ends in .csv or .parquet" in refused.said) == (2, True)
    (tmp_path / "list.csv").write_text("path,label\nimages/dark/20.png,drak\n")
    refused = command("versus", old, new, tmp_path / "list.csv")
    assert (refused.code, "'drak' is no class" in refused.said) == (3, True)
    assert "Did you mean 'dark'?" in refused.said
    (tmp_path / "list.csv").write_text("path\nimages/dark/20.png\nimages/dark/20.png\n")
    refused = command("versus", old, new, tmp_path / "list.csv")
    assert (refused.code, "is named twice" in refused.said) == (3, True)


def test_rows_that_are_kept_are_not_computed_again(files, images, command, tmp_path):
    kept = tmp_path / "kept"
    first = command("versus", *files, images, "--output", kept, "--json")
    parts = {path: path.stat().st_mtime_ns for path in kept.rglob("part-*.parquet")}
    assert len(parts) == 2
    assert command("versus", *files, images, "--output", kept, "--json").json == first.json
    assert parts == {path: path.stat().st_mtime_ns for path in kept.rglob("part-*.parquet")}


def test_it_needs_no_torch(files, images):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from workflow.versus.versus import versus; "
        f"versus(Path({str(files[0])!r}), Path({str(files[1])!r}), Path({str(images)!r})); "
        "assert 'torch' not in sys.modules"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
