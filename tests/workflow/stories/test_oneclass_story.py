"""The one-class family through the commands: trained, exported, and a collapse caught on the way."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from export.scoring import load_model
from tests.conftest import Run
from tests.pictures import write_pictures, write_two_classes
from tests.threads import one_thread  # noqa: F401

RECIPE = """\
name: tiny
folds: 2
bootstrap: 100
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  cnn: {max_iterations: 20}
"""
FAMILY = """\
  deep_svdd_pixels: &pixels {image_size: 32, filters: [4, 4], embedding_dim: 8, pretrain_epochs: 1, epochs: 2}
  gray_28: {type: deep_svdd_pixels, image_size: 28, colours: gray, pretrain_epochs: 1, epochs: 2}
  deep_sad: {epochs: 2, hidden: 8, embedding_dim: 4}
  deep_sad_pixels: *pixels
  mahalanobis: {}
  knn: {}
  mean_shifted: {image_size: 64, epochs: 1}
"""
PROVOKED = """\
  kept: &small {type: deep_svdd, epochs: 1, hidden: 8, embedding_dim: 4}
  zero_centre: {<<: *small, centre: origin}
  biases: {<<: *small, bias: true}
  pixels_with_biases: {type: deep_sad_pixels, bias: true}
"""


def run_of(folder, recipe, trained):
    (folder / "tiny.yaml").write_text(recipe)
    trained.give_traced_backbones(folder / "runs")
    return Run(folder / "pictures", folder / "tiny.yaml", folder / "runs")


def test_family_trains_and_exports_at_any_batch_size(tmp_path, trained):
    write_two_classes(tmp_path / "pictures", 30, 8, test=8)
    run = run_of(tmp_path, RECIPE + FAMILY, trained)
    done = run.command("train-all", "--json")
    assert done.code == 0, done.err
    assert done.json["left_out"] == {}
    # The gate compares every member's scores with the run's at batches 1, 2 and 7.
    fused = run.command("ensemble", "--json")
    assert fused.code == 0, fused.err
    kinds = {row["name"]: row["kind"] for row in fused.json["rows"]}
    assert kinds["deep_sad"] == kinds["deep_sad_pixels"] == "semisupervised"
    assert kinds["knn"] == "oneclass"
    model = load_model(run.folder / "model.onnx")
    assert set(model.members) >= {"deep_svdd_pixels", "gray_28", "deep_sad", "knn", "mean_shifted"}
    images = np.random.default_rng(0).integers(0, 256, size=(5, 64, 64, 3), dtype=np.uint8)
    together = model.run(images).member_scores
    alone = np.concatenate([model.run(image[None]).member_scores for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4)


def test_provoked_collapses_are_named_and_left_out(tmp_path, trained):
    write_two_classes(tmp_path / "pictures", 24, 8, test=6)
    run = run_of(tmp_path, RECIPE + PROVOKED, trained)
    done = run.command("train-all", "--json")
    assert done.code == 0, done.err
    left_out = done.json["left_out"]
    assert set(left_out) == {"zero_centre", "biases", "pixels_with_biases"}
    assert "the centre is the origin, which all-zero weights reach" in left_out["zero_centre"]
    assert "2 layers have a bias (of_cell.0.bias)" in left_out["biases"]
    assert left_out["pixels_with_biases"].startswith("deep_sad_pixels: collapsed")
    assert done.json["fits_done"] == 15
    assert "left out" in done.said


@pytest.fixture
def constant(tmp_path):
    """A majority of files that differ in their bytes and show the same picture."""
    write_pictures(tmp_path / "pictures" / "odd", 8, True, 0)
    folder = tmp_path / "pictures" / "fine"
    folder.mkdir()
    for number in range(16):
        text = PngImagePlugin.PngInfo()
        text.add_text("number", str(number))
        Image.new("RGB", (48, 48), (120, 90, 60)).save(folder / f"{number}.png", pnginfo=text)
    return tmp_path


def test_a_constant_data_set_leaves_the_whole_family_out_and_goes_on(constant, trained):
    small = "  deep_svdd: {epochs: 1, hidden: 8, embedding_dim: 4}\n  patchcore: {bank_size: 50}\n"
    run = run_of(constant, RECIPE + FAMILY + small, trained)
    done = run.command("train-all", "--minority", "odd", "-o", "folds=3", "--json")
    assert done.code == 0, done.err
    left_out = done.json["left_out"]
    assert {"deep_svdd", "deep_svdd_pixels", "gray_28", "mahalanobis", "knn", "mean_shifted"} <= set(left_out)
    assert "cnn" not in left_out
    assert all("collapsed" in reason for reason in left_out.values())
