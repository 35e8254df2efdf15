"""The recipe of a transformer from images to the file, on a tiny one with random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest

from export.scoring.model import load_model
from imagedata.decoding.decode import decode_file
from tests.conftest import Run, run_command

# All that a hub and minutes are needed for; members and blocks are the recipe's own.
_SMALL = (
    "folds=2",
    "bootstrap=100",
    "backbone.name=test_vit",
    "backbone.weights=random",
    "backbone.image_size=64",
    "members.patchcore={bank_size: 30, candidate_patches: 100}",
    "members.patch_head={least_steps: 5, epochs: 1, bank_patches: 20}",
    "members.cnn.max_iterations=5",
    "members.cnn_weighted=false",
)


@pytest.fixture(scope="module")
def options(tiny: Run, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    runs = tmp_path_factory.mktemp("foundation")
    given: list[object] = [tiny.dataset, "--recipe", "foundation", "--runs", runs]
    for override in _SMALL:
        given += ["-o", override]
    for command in ("train-all", "ensemble"):
        outcome = run_command(command, *given)
        assert outcome.code == 0, outcome.err
    return given


def test_its_file_repeats_the_run_at_any_batch(options, tiny: Run):
    folder = options[4] / tiny.dataset.name / "foundation"
    model = load_model(folder / "model.onnx")
    assert model.members == ("patchcore", "subspace", "knn", "patch_head", "cnn")
    paths = sorted((tiny.dataset / "test" / "odd").iterdir())[:5]
    images = np.stack([decode_file(path, model.decode).pixels for path in paths])
    together = model.run(images, with_maps=True)
    # The parity gate has compared them with the run's scores already.
    assert together.anomaly_map.shape == (len(images), 4, 4)
    for number in range(len(images)):
        alone = model.run(images[number : number + 1])
        np.testing.assert_allclose(alone.probability, together.probability[number : number + 1], atol=1e-4)


def test_the_licence_of_its_weights_is_in_the_file_and_on_the_card(options, tiny: Run):
    folder = options[4] / tiny.dataset.name / "foundation"
    assert load_model(folder / "model.onnx").document["weights"] == {"test_vit": "none: random weights"}
    card = (folder / "deploy" / "README.md").read_text()
    assert "| weights of `test_vit` | none: random weights |" in card
    config = json.loads((folder / "deploy" / "config.json").read_text())
    assert config


def test_explain_reads_its_patches(options, tiny: Run, tmp_path):
    image = sorted((tiny.dataset / "test" / "odd").iterdir())[0]
    outcome = run_command("explain", options[0], image, *options[1:], "--output", tmp_path, "--json")
    assert outcome.code == 0, outcome.err
    assert {each["map"] for each in outcome.json["images"][0]["maps"]} == {
        "together",
        "patchcore",
        "subspace",
        "patch_head",
    }
    assert outcome.json["images"][0]["patches"][0]["grid"] == 4
