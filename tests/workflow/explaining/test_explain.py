"""``explain`` as users call it: what it says agrees with the run, and what it shows is where it says."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from contracts.files import read_json
from ensemble.fitted import FittedEnsemble
from tests.conftest import Outcome, Run, run_command

ODD, OWN = "test/odd/001.png", "train/fine/003.png"


@pytest.fixture(scope="module")
def explained(
    fitted: tuple[Run, Outcome], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Outcome, Path]:
    """A held-out odd image, a training image, a new one and a broken one."""
    run, folder = fitted[0], tmp_path_factory.mktemp("explained")
    shutil.copy(run.dataset / "test" / "fine" / "000.png", folder / "new.png")
    pixels = np.asarray(Image.open(folder / "new.png")).copy()
    pixels[30:40, 5:15] = 255
    Image.fromarray(pixels).save(folder / "new.png")
    (folder / "broken.png").write_bytes(b"\x89PNG broken")
    images = (run.dataset / ODD, run.dataset / OWN, folder / "new.png", folder / "broken.png")
    features = sorted((run.runs / "features").rglob("*"))
    outcome = run.command("explain", *images, "--output", folder / "pictures", "--json")
    assert outcome.code == 4, outcome.err
    # Images that are only looked at leave nothing in the cache.
    assert sorted((run.runs / "features").rglob("*")) == features
    return run, outcome, folder


def test_document_has_its_shape(explained):
    _, outcome, folder = explained
    document = outcome.json
    assert list(document) == ["dataset", "recipe", "output", "threshold", "notes", "images", "failed"]
    assert [image["split"] for image in document["images"]] == ["test", "train", None]
    assert [image["label"] for image in document["images"]] == ["odd", "fine", None]
    [failed] = document["failed"]
    assert failed["path"] == str(folder / "broken.png")
    assert "not an image" in failed["reason"]
    assert document["notes"] == []
    for image in document["images"]:
        assert list(image["members"][0]) == [
            "member",
            "score",
            "contribution",
            "above_majority",
            "above_minority",
        ]
        assert image["map"]["member"] == "patchcore"
        # A single map is not shown twice, as its own and as that of all.
        [only] = image["maps"]
        assert (only["map"], only["member"], only["unit"]) == ("patchcore", "patchcore", "distance")
        assert only["largest"] == image["map"]["largest"]
        assert (only["at"]["row"], only["at"]["column"]) == tuple(
            image["patches"][0][key] for key in ("row", "column")
        )
        assert len(image["patches"]) == 3


def test_probability_is_the_runs_and_the_parts_make_it_up(explained):
    run, outcome, _ = explained
    image = outcome.json["images"][0]
    table = pq.read_table(run.folder / "test.parquet").to_pydict()
    row = table["path"].index(ODD)
    assert image["probability"] == pytest.approx(table["probability"][row], abs=1e-5)
    assert image["decision"] == table["decision"][row]
    for share in image["members"]:
        assert share["score"] == pytest.approx(table[f"score_{share['member']}"][row], rel=1e-4)
    ensemble = FittedEnsemble.from_json(read_json(run.folder / "ensemble.json"))
    scores = np.array([[share["score"] for share in image["members"]]])
    parts = sum(share["contribution"] for share in image["members"])
    expected = ensemble.combination.logits(scores)[0] - ensemble.combination.intercept[0]
    assert parts == pytest.approx(expected)
    patchcore = image["members"][0]
    assert (patchcore["above_majority"], patchcore["contribution"] > 0) == (1.0, True)


def test_the_deciding_patches_are_far_from_normal_ones_of_training_images(explained):
    run, outcome, _ = explained
    folds = read_json(run.folder / "folds.json")
    scored = []
    for image in outcome.json["images"]:
        distances = [patch["distance"] for patch in image["patches"]]
        assert distances == sorted(distances, reverse=True)
        assert distances[0] == pytest.approx(image["map"]["largest"], rel=1e-3)
        scored.append((float(np.mean(distances)), image["members"][0]["score"]))
        for patch in image["patches"]:
            nearest = [near["distance"] for near in patch["nearest"]]
            assert len(nearest) == 3
            assert nearest == sorted(nearest)
            for near in patch["nearest"]:
                path = Path(near["path"]).relative_to(run.dataset).as_posix()
                assert path in folds
                assert path.startswith("train/fine/")
                assert near["name"] == Path(path).name
                left, top, right, bottom = near["box"]
                assert (top, left) == (near["row"] / near["grid"], near["column"] / near["grid"])
                assert right - left == bottom - top == 1 / near["grid"]
    # The score is the mean of the three farthest, standardised, which keeps their order.
    by_distance = [score for _, score in sorted(scored)]
    assert by_distance == sorted(by_distance)
    odd, own, _ = outcome.json["images"]
    assert odd["patches"][0]["distance"] > odd["map"]["usual"]["most"] > odd["map"]["usual"]["half"]
    assert odd["patches"][0]["nearest"][0]["distance"] == pytest.approx(odd["patches"][0]["distance"])
    # A training image is not explained by itself.
    assert all(Path(near["path"]).name != "003.png" for p in own["patches"] for near in p["nearest"])
    assert "It is a training image: the members have learned from it" in outcome.said


def test_pictures_are_drawn_and_equal_bytes_again(explained, tmp_path):
    run, outcome, folder = explained
    paths = [Path(image["picture"]) for image in outcome.json["images"]]
    assert sorted(paths) == sorted((folder / "pictures").iterdir())
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 800
    again = run.command("explain", run.dataset / ODD, "--output", tmp_path)
    assert again.code == 0
    assert again.out == ""
    assert (tmp_path / paths[0].name).read_bytes() == paths[0].read_bytes()
    for word in ("patchcore", "nearest normal patches", "It is a test image; its label is odd."):
        assert word in again.said


def test_without_patchcore_there_are_scores_and_no_map(trained: Run, tmp_path, monkeypatch):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        "name: tiny\nfolds: 2\nbootstrap: 100\n"
        "backbone: {name: test_efficientnet, weights: random, image_size: 64}\n"
        "members:\n  deep_svdd: {epochs: 1, hidden: 8, embedding_dim: 4}\n  cnn: {max_iterations: 5}\n"
    )
    run = Run(trained.dataset, recipe, tmp_path / "runs")
    shutil.copytree(trained.runs / "features", run.runs / "features")
    assert run.command("train-all").code == 0
    early = run.command("explain", run.dataset / ODD)
    assert early.code == 5
    assert "no ensemble fitted yet. First run: python cli.py ensemble" in early.said
    monkeypatch.setattr(
        "workflow.ensembling.model_file.export_model", lambda *given, **options: {"sha256": "none"}
    )
    assert run.command("ensemble").code == 0
    outcome = run.command("explain", run.dataset / ODD, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["images"][0]["map"] is None
    assert outcome.json["images"][0]["maps"] == []
    assert [share["member"] for share in outcome.json["images"][0]["members"]] == ["deep_svdd", "cnn"]
    assert "no PatchCore, so there are no nearest normal patches" in outcome.said


def test_a_training_image_that_is_gone_is_named(fitted, tmp_path):
    run = fitted[0].copy(tmp_path, with_dataset=True)
    assert run.command("train-all").code == 0
    shutil.move(run.dataset / ODD, tmp_path / "odd.png")
    for file in (run.dataset / "train" / "fine").iterdir():
        file.write_bytes(b"")
    outcome = run.command("explain", tmp_path / "odd.png")
    assert outcome.code == 3
    assert "file is empty (0 bytes). The bank holds a patch of it" in outcome.said


def test_mistakes_are_one_sentence(fitted, tmp_path):
    run = fitted[0]
    (tmp_path / "broken.png").write_bytes(b"")
    (tmp_path / "file").write_text("")
    image = run.dataset / ODD
    for arguments, code, said in (
        ([], 2, "no image named. Write: python cli.py explain DATASET IMAGE..."),
        ([run.dataset], 2, "that is a folder. Name the images"),
        (["nowhere.png"], 2, "nowhere.png: does not exist"),
        ([tmp_path / "broken.png"], 3, "broken.png: file is empty (0 bytes)."),
        ([image, "--output", tmp_path / "file"], 2, "that is a file. Name a folder for the pictures"),
        ([image, "--seed", "3"], 5, "trained with seed=0, but now seed=3 is asked for"),
    ):
        outcome = run.command("explain", *arguments)
        assert outcome.code == code, outcome.err
        assert said in outcome.said
        assert outcome.out == ""
    swapped = run_command("explain", image, "--recipe", run.recipe)
    assert swapped.code == 2
    assert "that is an image, not a data set" in swapped.said
    nothing = Run(run.dataset, run.recipe, tmp_path / "runs").command("explain", image)
    assert nothing.code == 5
    assert "nothing trained there yet" in nothing.said
