"""``localise`` where it cannot: no masks, no run, no map."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imagedata.manifest import Manifest
from imagedata.manifest_row import ManifestRow
from workflow.explaining.localise import _at_one_size


def test_a_data_set_without_masks(fitted):
    outcome = fitted[0].command("localise")
    assert outcome.code == 3
    assert "the data set has no masks" in outcome.said
    assert "ground_truth/<kind>/<name>_mask.png" in outcome.said


def test_a_run_that_is_not_finished(trained):
    outcome = trained.command("localise")
    assert outcome.code == 5
    assert "cli.py ensemble" in outcome.said


def test_maps_are_stretched_to_the_mask():
    row = ManifestRow("a.png", "good", "a", "test", "a", 40, 20, "RGB", "ok", "")
    heat = np.array([[0.0, 1.0], [0.0, 1.0]], dtype=np.float32)
    stretched, mask = _at_one_size(heat, row, None)
    assert stretched.shape == mask.shape == (20, 40)
    assert not mask.any()
    assert stretched[:, 0].max() == 0
    assert stretched[:, -1].min() == 1
    assert (np.diff(stretched[5]) >= 0).all()
    own = np.zeros((10, 10), dtype=bool)
    assert _at_one_size(heat, row, own)[0].shape == (10, 10)
    assert 0.4 < float(np.asarray(Image.fromarray(stretched)).mean()) < 0.6


@pytest.mark.slow
def test_story_of_a_category_with_masks(tmp_path):
    """A generated tree with masks: train-all, ensemble, localise; the map finds what was planted."""
    from tests.conftest import run_command
    from tests.defects import KINDS, write_mvtec_tree

    root = write_mvtec_tree(tmp_path / "data")
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "name: small\nfolds: 3\nbootstrap: 300\nbackbone: {image_size: 96}\n"
        "members:\n  patchcore: {bank_size: 400, candidate_patches: 4000}\n  cnn: {}\n"
    )
    options = ("--data", tmp_path / "data", "--runs", tmp_path / "runs", "--recipe", recipe)
    for name in ("train-all", "ensemble"):
        outcome = run_command(name, "mvtec_tile", *options)
        assert outcome.code == 0, outcome.err
    outcome = run_command("localise", "mvtec_tile", *options, "--json")
    assert outcome.code == 0, outcome.err
    kinds = {each["kind"]: each for each in outcome.json["kinds"]}
    assert set(kinds) == {"all", *KINDS}
    assert kinds["all"]["anomalous"] == 16  # half of 32; the others were moved into training
    assert kinds["all"]["images"] == 24 + 16
    assert kinds["spot"]["regions"] == 16
    for each in kinds.values():
        for figure in ("pixel_auroc", "pro"):
            assert each[figure]["low"] <= each[figure]["value"] <= each[figure]["high"]
    assert kinds["all"]["pixel_auroc"]["value"] > 0.9
    assert kinds["all"]["pro"]["value"] > 0.75
    assert outcome.json["left_out"] == []
    again = run_command("localise", "mvtec_tile", *options, "--json")
    assert again.json == outcome.json

    # Masks that are gone or mark nothing leave their images out, each with its reason.
    masks = sorted((root / "ground_truth").rglob("*.png"))
    manifest = Manifest.read(tmp_path / "runs" / "mvtec_tile" / "small" / "manifest.parquet")
    held_out = next(row for row in manifest.usable("test") if row.mask)
    (root / held_out.mask).unlink()
    outcome = run_command("localise", "mvtec_tile", *options, "--json")
    assert [each["path"] for each in outcome.json["left_out"]] == [held_out.path]
    assert "cannot be read" in outcome.json["left_out"][0]["reason"]
    assert outcome.json["kinds"][0]["anomalous"] == 15
    for mask in masks:
        Image.new("L", (96, 96)).save(mask)
    outcome = run_command("localise", "mvtec_tile", *options)
    assert outcome.code == 3
    assert "none of the 16 test anomalies has a usable mask" in outcome.said
    assert "marks nothing" in outcome.said
