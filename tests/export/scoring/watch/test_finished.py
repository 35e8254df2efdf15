"""The watch in a run of the scorer, on a tiny file whose scores can be checked by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from contracts.errors import UsageError
from contracts.files import read_json
from export.scoring.watch.reference import LOG_ODDS, Quantity, WatchReference, fine_counts
from export.scoring.watch.verdict import NOT_IN_FILE
from imagedata.decoding.decode import DecodeSettings, decode_bytes
from imagedata.decoding.facts import TITLES, picture_facts
from tests import fixtures_onnx as onnx_files
from tests.conftest import run_command
from workflow.score import score

N_NORMAL, N_MINORITY, FOLDS = 240, 60, 3
TRAINED = N_MINORITY / (N_NORMAL + N_MINORITY)


def pixels(random: np.random.Generator, is_minority: bool) -> np.ndarray:
    """Grey noise; the minority is brighter, so that few pairs overlap."""
    level = random.normal(160.0 if is_minority else 95.0, 14.0)
    return np.clip(random.normal(level, 12.0, (16, 16, 1)), 0, 255).repeat(3, axis=2).astype(np.uint8)


def write_images(folder: Path, labels: list[bool], seed: int = 0, shift: int = 0) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number, is_minority in enumerate(labels):
        image = np.clip(pixels(random, is_minority).astype(int) // (2 if shift else 1), 0, 255)
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> WatchReference:
    """Of images like those above, with exact log-odds in place of a calibrator's."""
    labels = [False] * N_NORMAL + [True] * N_MINORITY
    folder = write_images(tmp_path_factory.mktemp("watch") / "train", labels, seed=9)
    settings = DecodeSettings(onnx_files.SIZE)
    facts, bright = [], []
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        decoded = decode_bytes(data, settings)
        facts.append(picture_facts(decoded, len(data)))
        bright.append(decoded.pixels.mean() / 255.0)
    of_class = np.array(labels, dtype=np.int64)
    log_odds = log_odds_of(np.array(bright))
    quantities = [
        Quantity.fit(name, title, np.stack(facts)[:, at].astype(float), of_class, 2, 0.05)
        for at, (name, title) in enumerate(TITLES.items())
    ]
    quantities.append(Quantity.fit(LOG_ODDS, "log-odds of light", log_odds, of_class, 2, 0.1))
    folds = np.arange(len(labels)) % FOLDS
    fine = [[fine_counts(log_odds[(folds == f) & (of_class == k)]) for k in (0, 1)] for f in range(FOLDS)]
    return WatchReference(tuple(quantities), "dark", "light", (1.0, 1.0), np.stack(fine))


def log_odds_of(bright: np.ndarray) -> np.ndarray:
    """The file's log-odds at the class shares of training; at a prior of .5 it says 8 (bright - .5)."""
    return 8.0 * (bright - 0.5) + np.log(TRAINED / (1.0 - TRAINED))


@pytest.fixture
def model(tmp_path: Path, reference: WatchReference) -> Path:
    document = onnx_files.metadata(watch=reference.to_json(), trained_prior=TRAINED)
    return onnx_files.write_two_class_model(tmp_path / "model.onnx", document)


def test_a_run_is_compared_and_the_comparison_kept_beside_it(tmp_path: Path, model: Path) -> None:
    images = write_images(tmp_path / "images", [False] * 80 + [True] * 20)
    report = score(model, [images], output=tmp_path / "out")
    assert report.watch is not None
    assert report.watch["alarm"] is False
    assert report.watch["images"] == 100
    assert report.watch["prior"] is None
    figure = report.watch["share"]["figure"]
    assert figure["low"] <= 0.2 <= figure["high"]
    kept = read_json(tmp_path / "out" / "_watch.json")
    assert kept["watch"]["share"] == report.watch["share"]
    assert kept["counts"]["images"] == 100
    assert len(pd.read_parquet(tmp_path / "out")) == 100
    # The same again from the footers alone, without scoring.
    again = score(model, [images], output=tmp_path / "out")
    assert again.already_done == 100
    assert again.watch == report.watch


def test_processes_and_shards_make_no_difference(tmp_path: Path, model: Path) -> None:
    images = write_images(tmp_path / "images", [False] * 90 + [True] * 10)
    one = score(model, [images], output=tmp_path / "one", processes=1)
    two = score(model, [images], output=tmp_path / "two", processes=2)
    assert one.watch == two.watch


def test_broken_images_are_not_counted(tmp_path: Path, model: Path) -> None:
    images = write_images(tmp_path / "images", [False] * 30)
    (images / "broken.png").write_bytes(b"no image")
    report = score(model, [images], output=tmp_path / "out")
    assert report.watch is not None
    assert report.watch["images"] == 30


def test_darker_pictures_raise_an_alarm_and_take_the_figure_away(tmp_path: Path, model: Path) -> None:
    images = write_images(tmp_path / "images", [False] * 80, shift=1)
    report = score(model, [images], output=tmp_path / "out", prior="estimated")
    assert report.watch is not None
    assert report.watch["alarm"] is True
    assert report.watch["share"]["figure"] is None
    assert report.watch["prior"] is None
    assert report.watch["sentences"][-1] == (
        "The file's own prior, 0.5, is kept, because no share is safe to apply."
    )
    plain = score(model, [images], output=tmp_path / "plain")
    assert plain.decisions == report.decisions
    mine, theirs = (pd.read_parquet(tmp_path / name).sort_values("path") for name in ("out", "plain"))
    np.testing.assert_array_equal(mine.probability, theirs.probability)


def test_the_estimated_share_is_applied_as_a_stated_one_would_be(tmp_path: Path, model: Path) -> None:
    images = write_images(tmp_path / "images", [False] * 95 + [True] * 5)
    (images / "broken.png").write_bytes(b"no image")
    report = score(model, [images], output=tmp_path / "out", prior="estimated")
    assert report.watch is not None
    applied = report.watch["prior"]
    assert applied == report.watch["share"]["figure"]["value"]
    assert report.watch["sentences"][-1].startswith("Probabilities and decisions refer to this share, ")
    stated = score(model, [images], output=tmp_path / "stated", prior=applied)
    assert stated.decisions == report.decisions
    mine, theirs = (pd.read_parquet(tmp_path / name).sort_values("path") for name in ("out", "stated"))
    np.testing.assert_allclose(mine.probability, theirs.probability, atol=2e-6)
    assert mine.decision.tolist() == theirs.decision.tolist()
    # Killed half-way through, or given again: it ends with the same rows.
    before = {part.name: part.read_bytes() for part in (tmp_path / "out").glob("part-*")}
    again = score(model, [images], output=tmp_path / "out", prior="estimated")
    assert again.watch == report.watch
    assert {part.name: part.read_bytes() for part in (tmp_path / "out").glob("part-*")} == before


def test_estimated_rows_are_not_taken_for_others(tmp_path: Path, model: Path) -> None:
    images = write_images(tmp_path / "images", [False] * 40)
    score(model, [images], output=tmp_path / "out", prior="estimated")
    with pytest.raises(UsageError, match="results of another run"):
        score(model, [images], output=tmp_path / "out")
    score(model, [images], output=tmp_path / "out", overwrite=True)
    shutil.rmtree(images)


def test_an_older_file_says_one_sentence_and_changes_nothing_else(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", [False] * 30)
    old = onnx_files.write_two_class_model(tmp_path / "old.onnx")
    ran = run_command("score", old, images, "--output", tmp_path / "out", "--json")
    assert ran.code == 0
    assert NOT_IN_FILE in ran.said
    assert json.loads(ran.out)["watch"] is None
    assert not (tmp_path / "out" / "_watch.json").exists()
    refused = run_command("score", old, images, "--output", tmp_path / "new", "--prior", "estimated")
    assert refused.code == 2
    assert "keeps nothing of its training that a share could be estimated from" in refused.said
    assert not (tmp_path / "new").exists()


def test_the_command_says_it(tmp_path: Path, model: Path) -> None:
    images = write_images(tmp_path / "images", [False] * 80 + [True] * 20)
    ran = run_command("score", model, images, "--output", tmp_path / "out", "--json")
    assert "Compared with training, these 100 images have not changed" in ran.said
    assert "Estimated share of light: " in ran.said
    assert ran.json["watch"]["compared"] is True
    wrong = run_command("score", model, images, "--output", tmp_path / "out", "--prior", "estimate")
    assert wrong.code == 2
    assert "--prior 'estimate' is neither a number nor 'estimated'. Did you mean 'estimated'?" in wrong.said


def test_a_file_with_too_few_labels_refuses_to_estimate(tmp_path: Path, reference: WatchReference) -> None:
    kept = {**reference.to_json(), "log_odds": None, "no_share": "it rests on 3 labelled minority images."}
    model = onnx_files.write_two_class_model(tmp_path / "few.onnx", onnx_files.metadata(watch=kept))
    images = write_images(tmp_path / "images", [False] * 30)
    with pytest.raises(UsageError, match=r"it rests on 3 labelled minority images\. Give a number\."):
        score(model, [images], output=tmp_path / "out", prior="estimated")
    report = score(model, [images], output=tmp_path / "out")
    assert report.watch is not None
    assert report.watch["sentences"][-1] == (
        "Share of light: not estimated; it rests on 3 labelled minority images."
    )
