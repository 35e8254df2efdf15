"""The folder beside an exported file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.deploy import write_deploy_folder
from export.scorer import Scorer
from export.scoring import load_model
from tests import fixtures_onnx, hostile


@pytest.fixture(scope="module")
def exported(fitted) -> Path:
    run, _ = fitted
    return run.folder / "model.onnx"


def test_export_leaves_it_beside_the_file(exported):
    folder = exported.parent / "deploy"
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "fine", "1": "odd"}
    assert config["onnx_file"] == "model.onnx"
    card = (folder / "README.md").read_text()
    assert "| training images | 45 fine, 12 odd |" in card
    assert "AUROC | " in card
    assert config["sha256"][:16] in card
    assert "{{" not in card


def test_figures_of_the_card_are_those_of_the_run(fitted, exported):
    row = next(row for row in fitted[1].json["rows"] if row["name"] == "ensemble")
    low, high = row["intervals"]["auroc"]
    card = (exported.parent / "deploy" / "README.md").read_text()
    assert f"| AUROC | {row['auroc']:.3f} ({low:.3f} to {high:.3f}) |" in card


def test_python_example_scores_as_the_scorer_does(exported, tmp_path):
    # At working size: the example lets the graph resize, where the scorer resizes before it.
    size = load_model(exported).decode.size
    path = tmp_path / "image.png"
    Image.fromarray(hostile.noise(3, size, size)).save(path)
    example = exported.parent / "deploy" / "examples" / "score.py"
    done = subprocess.run(
        [sys.executable, str(example), str(exported), str(path)], capture_output=True, text=True, check=True
    )
    (result,) = Scorer(exported).score_files([path])
    name, probability, decision = done.stdout.split()
    assert (name, decision) == (str(path), result.decision)
    assert float(probability) == pytest.approx(result.probability, abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm")
def test_javascript_example_scores_as_the_scorer_does(exported, tmp_path):
    size = load_model(exported).decode.size
    path = tmp_path / "image.png"
    Image.fromarray(hostile.noise(3, size, size)).save(path)
    shutil.copy(exported.parent / "deploy" / "examples" / "score.mjs", tmp_path)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "onnxruntime-web@1.30", "sharp@0.35"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    done = subprocess.run(
        ["node", "score.mjs", str(exported), str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    (result,) = Scorer(exported).score_files([path])
    name, probability, decision = done.stdout.split()
    assert (name, decision) == (str(path), result.decision)
    assert float(probability) == pytest.approx(result.probability, abs=1e-4)


def test_triton_takes_the_batch_for_granted(tmp_path):
    model = load_model(fixtures_onnx.write_three_class_model(tmp_path / "model.onnx"))
    write_deploy_folder(model, tmp_path / "deploy")
    text = (tmp_path / "deploy" / "triton" / "outnumbered" / "config.pbtxt").read_text()
    assert '{ name: "probability" data_type: TYPE_FP32 dims: [ 3 ] }' in text
    assert '{ name: "decision" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] } }' in text
    assert text.count("{") == text.count("}")


def test_file_with_nothing_but_what_is_promised(tmp_path):
    model = load_model(fixtures_onnx.write_two_class_model(tmp_path / "model.onnx"))
    files = write_deploy_folder(model, tmp_path / "deploy")
    assert all(path.stat().st_size for path in files)
    compile((tmp_path / "deploy/examples/score.py").read_text(), "score.py", "exec")
    assert np.isfinite(json.loads((tmp_path / "deploy/config.json").read_text())["prior"])
