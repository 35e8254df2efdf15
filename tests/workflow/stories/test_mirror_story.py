"""Images seen as themselves and as their mirror images, from training to the file and all that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from contracts.files import read_arrays, read_json
from export.scoring import load_model
from imagedata.decoding.decode import DecodeSettings, decode_file
from imagedata.views import MIRROR_SENTENCE
from tests.conftest import Outcome, Run, run_command
from tests.pictures import write_two_classes

RECIPE = """\
name: tiny
folds: 3
bootstrap: 200
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  patchcore: {bank_size: 60, candidate_patches: 300, pca_dim: 16}
  cnn: {max_iterations: 20}
  whole: {type: cnn_tuned, epochs: 1, image_size: 32, network: {name: small_cnn}}
"""
MIRROR = ("-o", "views_at_scoring=mirror")


@dataclass(frozen=True)
class Story:
    run: Run
    finished: Outcome

    def command(self, name: str, *arguments: object) -> Outcome:
        return self.run.command(name, *arguments, *MIRROR)


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> Story:
    folder = tmp_path_factory.mktemp("mirror")
    (folder / "tiny.yaml").write_text(RECIPE)
    write_two_classes(folder / "blotches", 24, 9, test=8)
    run = Run(folder / "blotches", folder / "tiny.yaml", folder / "runs")
    trained = run.command("train-all", *MIRROR)
    assert trained.code == 0, trained.err
    assert MIRROR_SENTENCE in trained.said
    finished = run.command("ensemble", *MIRROR, "--json")
    assert finished.code == 0, finished.err
    assert "Parity on 16 test images at batches 1, 2 and 7" in finished.said
    return Story(run, finished)


def pixels_of(*folders: Path) -> np.ndarray:
    """As training decodes them: the graph's resize is not Pillow's to the last digit."""
    paths = [path for folder in folders for path in sorted(folder.glob("*.png"))]
    return np.stack([decode_file(path, DecodeSettings(64)).pixels for path in paths])


def test_the_file_scores_an_image_and_its_mirror_image_alike(story, tmp_path):
    images = pixels_of(story.run.dataset / "test" / "odd")
    model = load_model(story.run.folder / "model.onnx")
    one = model.run(images, with_maps=True)
    other = model.run(np.ascontiguousarray(images[:, :, ::-1]), with_maps=True)
    np.testing.assert_allclose(one.member_scores, other.member_scores, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(one.anomaly_map, other.anomaly_map[:, :, ::-1], rtol=1e-2, atol=1e-2)
    assert model.document["views_at_scoring"] == "mirror"


def test_training_and_file_agree_on_test_rows_and_maps_have_their_own_scale(story):
    images = pixels_of(*(story.run.dataset / "test" / name for name in ("fine", "odd")))
    said = load_model(story.run.folder / "model.onnx").run(images).member_scores
    members = story.run.folder / "members"
    for column, name in enumerate(("patchcore", "cnn", "whole")):
        arrays, _ = read_arrays(members / name / "final.npz")
        trained = np.sort(arrays["scores"][:, 0])
        np.testing.assert_allclose(np.sort(said[:, column]), trained, rtol=2e-3, atol=2e-3)
    fold, _ = read_arrays(members / "patchcore" / "fold-0.npz")
    assert np.all(np.diff(fold["normal_map"]) >= 0)


def test_every_score_differs_from_those_of_images_as_they_are_and_features_are_kept_for_both(story, tmp_path):
    run = story.run
    plain = Run(run.dataset, run.recipe, tmp_path / "runs")
    run.give_traced_backbones(plain.runs)
    outcome = plain.command("train", "cnn")
    assert outcome.code == 0, outcome.err
    own, other = (
        read_arrays(each.folder / "members" / "cnn" / "fold-0.npz")[0]["scores"] for each in (run, plain)
    )
    assert own.shape == other.shape
    assert 0.0 < np.abs(own - other).max() < 3.0
    # The same member learnt the same: only what it is shown to score differs.
    state = [read_arrays(each.folder / "members" / "cnn" / "final.npz")[0] for each in (run, plain)]
    for name in state[0]:
        if name != "scores":
            assert np.array_equal(state[0][name], state[1][name]), name
    kept = [
        sum(len(read_json(path)["sha256"]) for path in (each.runs / "features").glob("*/*.json"))
        for each in (run, plain)
    ]
    # Mirror images of 33 training and 16 test images, and none of the views that are learnt from.
    assert kept[0] - kept[1] == 33 + 16


def test_score_gives_mirrored_files_the_same_probability(story, tmp_path):
    (tmp_path / "mirrored").mkdir()
    for path in sorted((story.run.dataset / "test" / "odd").glob("*.png")):
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored" / path.name)
    tables = []
    for folder, output in (
        (story.run.dataset / "test" / "odd", tmp_path / "a"),
        (tmp_path / "mirrored", tmp_path / "b"),
    ):
        outcome = run_command("score", story.run.folder / "model.onnx", folder, "--output", output)
        assert outcome.code == 0, outcome.err
        table = pq.read_table(next(output.glob("*.parquet"))).to_pydict()
        tables.append(dict(zip((Path(p).name for p in table["path"]), table["probability"], strict=True)))
    assert tables[0].keys() == tables[1].keys()
    for name, probability in tables[0].items():
        assert probability == pytest.approx(tables[1][name], abs=1e-4)


def test_inspect_and_the_model_card_say_it(story):
    inspected = run_command("inspect", story.run.folder / "model.onnx", "--json")
    assert inspected.code == 0, inspected.err
    assert inspected.json["metadata"]["views_at_scoring"] == "mirror"
    assert f"{MIRROR_SENTENCE} The graph does it; give it each image once." in inspected.said
    card = (story.run.folder / "deploy" / "README.md").read_text()
    assert f"| seen | {MIRROR_SENTENCE}" in card


def test_explain_gives_the_numbers_of_the_file(story):
    folder = story.run.dataset / "test" / "odd"
    path = sorted(folder.glob("*.png"))[3]
    outcome = story.command("explain", path, "--json")
    assert outcome.code == 0, outcome.err
    [image] = outcome.json["images"]
    said = load_model(story.run.folder / "model.onnx").run(pixels_of(folder)[3:4], with_maps=True)
    assert image["probability"] == pytest.approx(float(said.probability[0]), abs=1e-4)
    assert image["map"]["largest"] == pytest.approx(float(said.maps["patchcore"].max()), rel=1e-3)
    assert outcome.json["notes"] == [
        "Scores and maps are the mean of each image's and of its mirror image's; patches are those of the "
        "image as it is."
    ]
    report = story.command("report")
    assert report.code == 0, report.err


def test_an_update_scores_what_is_added_as_the_file_does(story, tmp_path):
    run = story.run.copy(tmp_path)
    added = tmp_path / "alarms"
    write_two_classes(tmp_path / "more", 3, 1, seed=9)
    (tmp_path / "more" / "fine").rename(added)
    outcome = run.command("update", *MIRROR, "--normal", added, "--json")
    assert outcome.code == 0, outcome.err
    arrays, _ = read_arrays(run.folder / "members" / "whole" / "added.npz")
    model = load_model(run.folder / "model.onnx")
    said = model.run(pixels_of(added)).member_scores[:, model.members.index("whole")]
    np.testing.assert_allclose(np.sort(arrays["added"][:, 0]), np.sort(said), rtol=1e-3, atol=1e-3)


def test_without_a_test_set_the_gate_shows_images_that_no_member_has_seen(tmp_path, story):
    """Their mirror images are training images turned back, so that they are turned upside down instead."""
    write_two_classes(tmp_path / "fewer", 16, 6)
    run = Run(tmp_path / "fewer", story.run.recipe, tmp_path / "runs")
    story.run.give_traced_backbones(run.runs)
    options = (*MIRROR, "-o", "members.whole=false", "-o", "repeats=1")
    assert run.command("train-all", *options).code == 0
    outcome = run.command("ensemble", *options, "--json")
    assert outcome.code == 0, outcome.err
    assert "Parity on 22 training images upside down at batches 1, 2 and 7" in outcome.said
