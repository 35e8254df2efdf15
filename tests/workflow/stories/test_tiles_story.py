"""Pictures in tiles, from training to the file: every kind of member, maps, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contracts.files import read_json
from export.scoring.model import load_model
from tests.conftest import Outcome, Run, run_command
from tests.pictures import picture

MEMBERS = ("patchcore", "subspace", "patch_head", "whole", "own", "cnn")
RECIPE = """\
name: tiled
folds: 2
bootstrap: 100
backbone: {name: test_efficientnet, weights: random, image_size: 32, tiles: 2}
members:
  patchcore: {bank_size: 60, candidate_patches: 300, pca_dim: 16}
  subspace: {}
  patch_head: {least_steps: 5, epochs: 1, bank_patches: 20}
  whole: {type: cnn, tune: full, epochs: 1, image_size: 32}
  own: {type: knn, backbone: {image_size: 64, tiles: 1}}
  cnn: {max_iterations: 5}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiles") / "tiled.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def options(tiny: Run, recipe: Path) -> list[object]:
    given: list[object] = [tiny.dataset, "--recipe", recipe, "--runs", recipe.parent / "runs"]
    for command in ("train-all", "ensemble"):
        outcome = run_command(command, *given)
        assert outcome.code == 0, outcome.err
    return given


@pytest.fixture(scope="module")
def folder(options, tiny: Run, recipe: Path) -> Path:
    return recipe.parent / "runs" / tiny.dataset.name / "tiled"


def test_its_file_repeats_the_run_at_any_batch(folder):
    model = load_model(folder / "model.onnx")
    assert model.members == MEMBERS
    assert model.decode.size == 64
    rng = np.random.default_rng(0)
    images = np.stack([picture(rng, number < 2, 64) for number in range(5)])
    # The parity gate has compared them with the run's scores already.
    together = model.run(images, with_maps=True)
    side = together.anomaly_map.shape[-1]
    assert all(each.shape[1:] == (side, side) for each in together.maps.values())
    assert side % 2 == 0
    for number in range(len(images)):
        alone = model.run(images[number : number + 1], with_maps=True)
        np.testing.assert_allclose(alone.probability, together.probability[number : number + 1], atol=1e-4)
        np.testing.assert_allclose(
            alone.maps["patchcore"][0], together.maps["patchcore"][number], rtol=5e-3, atol=5e-3
        )


def test_a_map_shows_the_tile_that_is_odd(folder):
    """A blotch in one quarter of a picture of noise: most of what PatchCore finds lies there."""
    model = load_model(folder / "model.onnx")
    rng = np.random.default_rng(1)
    plain = picture(rng, False, 64)
    marked = plain.copy()
    marked[32:, :32] = 255
    maps = model.run(np.stack([plain, marked]), with_maps=True).maps["patchcore"]
    risen = maps[1] - maps[0]
    half = risen.shape[0] // 2
    assert risen[half:, :half].mean() > 4 * max(risen[:half, half:].mean(), 1e-6)


def test_another_number_of_tiles_is_another_run(options, folder):
    kept = read_json(folder / "config.json")
    assert kept["recipe"]["backbone"]["tiles"] == 2
    again: Outcome = run_command("train-all", *options, "--json")
    assert again.json["fits_run"] == 0
    changed = run_command("ensemble", *options, "-o", "backbone.tiles=1", "-o", "backbone.image_size=64")
    assert changed.code == 5
    assert "backbone.image_size=32" in changed.said or "backbone.tiles=2" in changed.said


def test_explain_draws_the_whole_picture(options, tiny: Run, tmp_path):
    image = sorted((tiny.dataset / "test" / "odd").iterdir())[0]
    outcome = run_command("explain", options[0], image, *options[1:], "--output", tmp_path, "--json")
    assert outcome.code == 0, outcome.err
    [explained] = outcome.json["images"]
    assert {each["map"] for each in explained["maps"]} >= {"together", "patchcore", "subspace", "patch_head"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["backbone.tiles=3"],
            "its backbone wants 64 px but the recipe works at 96 px (3 tiles of 32 px per side). Images are "
            "decoded once",
        ),
        (["backbone.tiles=0"], "tiles"),
        (["backbone.tiles=8", "backbone.image_size=1024"], "more than 4096"),
    ],
)
def test_what_cannot_be(options, overrides, said):
    given = [word for pair in overrides for word in ("-o", pair)]
    outcome = run_command("train-all", *options, *given)
    assert outcome.code == 2
    assert said in outcome.said


def test_by_command_line(tiny: Run, tmp_path):
    """With ``-o`` alone, on a recipe that says nothing about tiles; nothing is trained."""
    outcome = run_command(
        "train-all", tiny.dataset, "--recipe", tiny.recipe, "--runs", tmp_path, "--dry-run", "--json",
        "-o", "backbone.tiles=3", "-o", "backbone.image_size=32",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
