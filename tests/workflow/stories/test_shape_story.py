"""A region of interest and padded pictures, from training to the exported file and all that reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.errors import UsageError
from contracts.files import read_json
from export.scorer import Scorer
from export.scoring import load_model
from tests.conftest import Outcome, run_command
from tests.pictures import picture

HEIGHT, WIDTH = 40, 72
RECIPE = """\
name: tiny
folds: 3
fit: pad
bootstrap: 200
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  patchcore: {bank_size: 60, candidate_patches: 300, pca_dim: 16}
  cnn: {max_iterations: 20}
"""


@dataclass(frozen=True)
class Story:
    dataset: Path
    options: tuple[object, ...]
    folder: Path
    mask: np.ndarray
    finished: Outcome

    def command(self, name: str, *arguments: object) -> Outcome:
        return run_command(name, self.dataset, *arguments, *self.options)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shape")
    rng = np.random.default_rng(0)
    for split, counts in (("train", (24, 9)), ("test", (8, 8))):
        for name, count in zip(("fine", "odd"), counts, strict=True):
            (folder / "wide" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
                pixels[:, 16:56] = picture(rng, name == "odd", 40)
                Image.fromarray(pixels).save(folder / "wide" / split / name / f"{number}.png")
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[4:, 16:56] = True
    mask[:20, 16:30] = False
    Image.fromarray(mask).save(folder / "mask.png")
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE)
    options = ("--recipe", recipe, "--runs", folder / "runs", "-o", f"roi={folder / 'mask.png'}")
    dataset = folder / "wide"
    trained = run_command("train-all", dataset, *options)
    assert trained.code == 0, trained.err
    assert "a mask of 72x40 pixels, 42% of each picture; nothing outside changes a score." in trained.said
    assert "Pictures keep their shape: grey bars" in trained.said
    finished = run_command("ensemble", dataset, *options, "--json")
    assert finished.code == 0, finished.err
    return Story(dataset, options, folder / "runs" / "wide" / "tiny", mask, finished)


@pytest.fixture(scope="module")
def pair(story, tmp_path_factory):
    """A test image, and the same with everything outside of the region changed."""
    source = np.asarray(Image.open(story.dataset / "test" / "odd" / "0.png"))
    other = source.copy()
    other[~story.mask] = np.random.default_rng(1).integers(0, 256, (int((~story.mask).sum()), 3))
    folder = tmp_path_factory.mktemp("pair")
    paths = [folder / "as_it_is.png", folder / "changed.png"]
    for path, pixels in zip(paths, (source, other), strict=True):
        Image.fromarray(pixels).save(path)
    return paths


def test_pixels_outside_change_no_score(story, pair):
    first, second = Scorer(story.folder / "model.onnx").score_files(pair)
    assert first.probability == second.probability
    assert first.p_normal == second.p_normal
    assert np.array_equal(first.member_scores, second.member_scores)
    assert np.array_equal(first.anomaly_map, second.anomaly_map)
    cells = load_model(story.folder / "model.onnx").decode.region.seen(first.anomaly_map.shape[-1], "pad")
    assert cells.any()
    assert not cells.all()
    assert (first.anomaly_map[~cells] == first.anomaly_map[cells].min()).all()


def test_arrays_are_cut_by_whoever_gives_them(story, pair):
    scorer = Scorer(story.folder / "model.onnx")
    [from_file] = scorer.score_files(pair[:1])
    pixels = np.asarray(Image.open(pair[0]))
    scores = scorer.score_pixels(scorer.pixels_of(pixels)[None])
    assert np.array_equal(scores.member_scores[0], from_file.member_scores)
    with pytest.raises(UsageError, match=r"looks at a region of interest only.*Scorer\.pixels_of"):
        scorer.score_pixels(pixels[None])


def test_python_example_cuts_them_too(story, pair):
    deployed = story.folder / "deploy"
    done = subprocess.run(
        [sys.executable, deployed / "examples" / "score.py", story.folder / "model.onnx", *pair],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    [from_file] = Scorer(story.folder / "model.onnx").score_files(pair[:1])
    first, second = (line.split()[1:] for line in done.stdout.splitlines())
    assert first == second
    # There the graph resizes, in floats.
    assert float(first[0]) == pytest.approx(from_file.probability, abs=0.02)
    prepared = json.loads((deployed / "preprocessor_config.json").read_text())
    assert (prepared["fit"], prepared["roi"]) == ("pad", "roi.png")
    assert "a mask of 72x40 pixels" in (deployed / "README.md").read_text()


def test_what_is_said_of_it(story):
    inspected = run_command("inspect", story.folder / "model.onnx", "--json")
    assert "Pictures keep their shape: grey bars" in inspected.said
    assert "a mask of 72x40 pixels" in inspected.said
    assert inspected.json["metadata"]["decode"]["fit"] == "pad"
    # The options but the recipe, which is none of a check's.
    checked = run_command("check", story.dataset, *story.options[2:], "--json")
    assert "42% of each picture" in checked.said
    planned = story.command("train-all", "--dry-run", "--json")
    assert planned.json["fit"] == "pad"
    assert planned.json["roi"]["mask"].endswith("mask.png")
    assert planned.json["fits_pending"] == 0
    assert planned.json["median_aspect"] == WIDTH / HEIGHT


def test_explain_draws_it(story, pair, tmp_path):
    outcome = story.command("explain", *pair, "--output", tmp_path, "--json")
    assert outcome.code == 0, outcome.err
    first, second = outcome.json["images"]
    assert first["probability"] == second["probability"]
    assert first["map"] == second["map"]
    by_file = Scorer(story.folder / "model.onnx").score_files(pair[:1])
    assert first["probability"] == pytest.approx(next(by_file).probability, abs=1e-3)


def test_other_settings_are_another_run(story):
    options = (story.dataset, *story.options)
    for given in ("fit=crop", "roi=0,0,1,1", "roi=null"):
        outcome = run_command("ensemble", *options, "-o", given)
        assert outcome.code == 5
        assert f"trained with {given.split('=')[0]}" in outcome.said
    planned = run_command("train-all", *options, "-o", "roi=null", "--dry-run", "--json")
    assert planned.json["fits_pending"] == planned.json["fits"] > 0


def test_the_same_mask_elsewhere_is_the_same_run(story, tmp_path):
    Image.fromarray(story.mask).convert("RGB").save(tmp_path / "other.bmp")
    outcome = story.command("ensemble", "-o", f"roi={tmp_path / 'other.bmp'}")
    assert outcome.code == 0, outcome.err
    assert read_json(story.folder / "config.json")["dataset"]["roi"]["mask"].endswith("mask.png")


def test_mask_of_another_shape(story, tmp_path):
    Image.new("1", (50, 50), 1).save(tmp_path / "square.png")
    options = (story.dataset, "--runs", tmp_path / "runs", "-o", f"roi={tmp_path / 'square.png'}")
    outcome = run_command("train-all", *options)
    assert outcome.code == 3
    assert "image is 72x40 pixels upright, but the mask of the region of interest is 50x50" in outcome.said
    checked = run_command("check", *options, "--json")
    assert "Not of the mask's shape" in checked.said


@pytest.mark.parametrize(
    ("roi", "reason"),
    [
        (".1,.1,.9", "a rectangle has 4 numbers, left,top,right,bottom; this has 3"),
        (".9,.1,.1,.9", "roi=0.9,0.1,0.1,0.9: a rectangle is left,top,right,bottom in shares"),
        ("none.png", "roi=none.png: there is no file none.png"),
        ("7", "a rectangle, left,top,right,bottom, or the path of a mask"),
    ],
)
def test_regions_that_are_none(story, roi, reason):
    outcome = run_command("train-all", story.dataset, "-o", f"roi={roi}")
    assert outcome.code == 2
    assert reason in outcome.said
