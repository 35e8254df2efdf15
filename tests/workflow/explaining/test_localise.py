"""``localise`` where it cannot: no masks, no run, no map."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imagedata.decoding.decode import DecodeSettings
from imagedata.decoding.region import Region
from imagedata.manifest import Manifest
from imagedata.manifest_row import ManifestRow
from workflow.explaining.localise import _at_one_size, _unseen


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
    stretched, mask = _at_one_size(heat, row, None, DecodeSettings(32))
    assert stretched.shape == mask.shape == (20, 40)
    assert not mask.any()
    assert stretched[:, 0].max() == 0
    assert stretched[:, -1].min() == 1
    assert (np.diff(stretched[5]) >= 0).all()
    own = np.zeros((10, 10), dtype=bool)
    assert _at_one_size(heat, row, own, DecodeSettings(32))[0].shape == (10, 10)
    assert 0.4 < float(np.asarray(Image.fromarray(stretched)).mean()) < 0.6


def test_map_and_mask_are_compared_where_the_model_looks():
    """Masks are cut, cropped and freed of bars as pictures are, so that maps meet their pixels."""
    row = ManifestRow("a.png", "bad", "a", "test", "a", 40, 20, "RGB", "ok", "")
    heat = np.tile(np.linspace(0, 1, 8, dtype=np.float32), (8, 1)).T  # rises downwards
    marked = np.zeros((20, 40), dtype=bool)
    marked[15:, 30:] = True
    padded, mask = _at_one_size(heat, row, marked, DecodeSettings(8, fit="pad"))
    assert np.array_equal(mask, marked)
    # The picture fills rows 2 to 6 of the 8.
    assert padded.min() == pytest.approx(2 / 7, abs=0.1)
    assert padded.max() == pytest.approx(5 / 7, abs=0.1)
    _, mask = _at_one_size(heat, row, marked, DecodeSettings(8, fit="crop"))
    assert np.array_equal(mask, marked[:, 10:30])
    right = DecodeSettings(8, region=Region((0.5, 0.0, 1.0, 1.0)))
    assert np.array_equal(_at_one_size(heat, row, marked, right)[1], marked[:, 20:])
    assert _unseen(right, row, marked) == ""
    left = DecodeSettings(8, region=Region((0.0, 0.0, 0.5, 1.0)))
    assert "outside of what is looked at" in _unseen(left, row, marked)
    inside = np.zeros((40, 80), dtype=bool)
    inside[20:, 40:] = True
    heat_map, mask = _at_one_size(heat, row, None, DecodeSettings(8, region=Region.of_mask(inside)))
    assert heat_map.shape == mask.shape == (20, 40)


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
