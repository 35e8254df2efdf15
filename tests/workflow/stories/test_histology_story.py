"""A generated tree of histology patches, from the first look to slides with probabilities."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from contracts.files import read_json
from imagedata.manifest import Manifest
from tests.conftest import run_command
from tests.histology import SIDE, STAINED_SHARE, is_stained, write_idc_tree
from tests.imagedata.trees import manifest_of, spec_of

RECIPE = """\
name: small
folds: 3
bootstrap: 300
backbone: {image_size: 96}
members:
  patchcore: {bank_size: 400, candidate_patches: 4000}
  cnn: {}
  cnn_weighted: {}
"""


def patient_of(path: str) -> str:
    """By the file name alone, whatever the manifest says."""
    return Path(path).name.split("_")[0]


def test_tree_is_what_it_says(tmp_path):
    faults = write_idc_tree(tmp_path, patients=12)
    root = tmp_path / "idc"
    patches = [path for path in root.rglob("*.png") if str(path.relative_to(root)) not in faults["broken"]]
    labels = []
    for path in patches:
        assert path.stem.endswith(f"class{path.parent.name}")
        assert path.parent.parent.name == patient_of(path.name)
        pixels = np.asarray(Image.open(path))
        labels.append(int(path.parent.name))
        if str(path.relative_to(root)) not in faults["cut"]:
            assert pixels.shape == (SIDE, SIDE, 3)
            assert is_stained(pixels) == bool(labels[-1])
    assert 0.05 < np.mean(labels) < 0.35
    assert 0 < STAINED_SHARE < 1
    assert len(faults["broken"]) == 4
    assert faults["cut"]
    assert write_idc_tree(tmp_path / "again", patients=12) == faults


def test_no_patient_crosses_splits(tmp_path):
    faults = write_idc_tree(tmp_path, patients=20)
    for seed in (0, 1):
        manifest = manifest_of(spec_of("idc"), tmp_path, seed)
        of = {name: {patient_of(row.path) for row in manifest.usable(name)} for name in ("train", "test")}
        assert of["train"] & of["test"] == set()
        assert len(of["train"] | of["test"]) == 20
        assert {row.path for row in manifest.rows if row.status == "broken"} == set(faults["broken"])
    # The proof can fail: the variant that exists to show the leak parts patients.
    leaky = manifest_of(spec_of("idc_random"), tmp_path)
    assert {patient_of(r.path) for r in leaky.usable("train")} & {
        patient_of(r.path) for r in leaky.usable("test")
    }


@pytest.mark.slow
def test_story(tmp_path):
    """check (where there is one), explore, train-all, ensemble, explore with the run's probabilities."""
    import cli

    faults = write_idc_tree(tmp_path / "data")
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE)
    options = ("--data", tmp_path / "data", "--runs", tmp_path / "runs", "--recipe", recipe)
    if "check" in {
        each.name or getattr(each.callback, "__name__", "") for each in cli.app.registered_commands
    }:
        checked = run_command("check", "idc", "--data", tmp_path / "data", "--runs", tmp_path / "runs")
        assert checked.code in {0, 3}, checked.err

    before = run_command("explore", "idc", *options, "--slides", 24, "--json")
    assert before.code == 0, before.err
    assert sum(row["broken"] for row in before.json["counts"]) == len(faults["broken"]) == 8
    assert len(before.json["slides"]) == before.json["groups"]["number"] == 24
    assert sum(slide["broken"] for slide in before.json["slides"]) == 8
    assert all(slide["predicted"] == 0 for slide in before.json["slides"])

    for name in ("train-all", "ensemble"):
        outcome = run_command(name, "idc", *options)
        assert outcome.code == 0, outcome.err
    run = tmp_path / "runs" / "idc" / "small"
    folds = defaultdict(set)
    for path, fold in read_json(run / "folds.json").items():
        folds[patient_of(path)].add(fold)
    assert all(len(each) == 1 for each in folds.values())
    assert {fold for each in folds.values() for fold in each} == {0, 1, 2}
    tables = {name: pq.read_table(run / f"{name}.parquet").to_pylist() for name in ("oof", "test")}
    held_out = {patient_of(row["path"]) for row in tables["test"]}
    assert held_out
    assert held_out & set(folds) == set()
    assert {row["path"] for row in tables["oof"]} == set(read_json(run / "folds.json"))
    for row in tables["oof"]:
        assert folds[patient_of(row["path"])] == {row["fold"]}

    after = run_command("explore", "idc", *options, "--slides", 24, "--json")
    assert after.code == 0, after.err
    manifest = Manifest.read(run / "manifest.parquet")
    usable = len(manifest.usable("train")) + len(manifest.usable("test"))
    slides = after.json["slides"]
    assert sum(slide["predicted"] for slide in slides) == usable
    of_held_out = [slide for slide in slides if slide["split"] == "held out"]
    assert {slide["name"] for slide in of_held_out} == held_out
    wrong = [row for row in tables["test"] if row["decision"] != row["label"]]
    assert sum(slide["missed"] + slide["false_alarms"] for slide in of_held_out) == len(wrong)
    pictures = [name for name in after.json["pictures"] if name.startswith("slide-")]
    assert len(pictures) == 2 * 24
    assert after.json["bytes"] < 15_000_000
    # Stain decides the label, so a model on real features must find most of it.
    auroc = {
        row["name"]: row["auroc"]
        for row in json.loads((run / "metrics.json").read_text())["document"]["rows"]
    }
    assert auroc["ensemble"] > 0.8
