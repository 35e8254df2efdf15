"""Directions of the pooled features: fitted on some folds, counted on others, and the same in the file."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from contracts.errors import ModelError
from export.parity import Expected, check_parity
from export.scoring.model import load_model
from export.scoring.watch.reference import reference_of
from imagedata.decoding.decode import decode_file
from tests.conftest import Outcome, Run, run_command
from workflow.ensembling.gate_images import gate_images, pooled_of_pixels
from workflow.ensembling.watched_features import (
    WatchedFeatures,
    principal_directions,
    watched_features,
    watched_of_gate,
)
from workflow.run.state import Run as OpenRun
from workflow.settings.config import RunOptions


@pytest.fixture(scope="module")
def opened(fitted: tuple[Run, Outcome]) -> OpenRun:
    run, _ = fitted
    return OpenRun.open(RunOptions(str(run.dataset), recipe=str(run.recipe), runs=run.runs))


@pytest.fixture(scope="module")
def watched(opened: OpenRun) -> WatchedFeatures:
    found = watched_features(opened)
    assert found is not None
    return found


def test_directions_are_those_of_a_singular_value_decomposition() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(30, 50)) * np.linspace(3.0, 0.1, 50) + 5.0
    mean, directions = principal_directions(values, 4)
    np.testing.assert_allclose(mean, values.mean(axis=0))
    _, _, expected = np.linalg.svd(values - mean, full_matrices=False)
    np.testing.assert_allclose(np.abs(directions.T @ expected[:4].T), np.eye(4), atol=1e-8)
    assert (np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0) > 0).all()


def test_rows_without_variance_give_no_direction() -> None:
    _, directions = principal_directions(np.ones((12, 5)), 4)
    assert directions.shape == (5, 0)


def test_counted_rows_are_of_other_folds_than_fitted_ones(opened: OpenRun, watched: WatchedFeatures) -> None:
    data = opened.data
    labels, folds = data.labels(data.train), data.fold_of_row
    pooled = watched.loaded.rows(data, data.train, opened.config.decode).pooled()
    is_fitted = (labels == 0) & (folds < len(np.unique(folds)) // 2)
    expected = np.concatenate([pooled[(labels == 0) & ~is_fitted], pooled[labels == 1]])
    np.testing.assert_array_equal(watched.pooled, expected)
    np.testing.assert_allclose(watched.mean, pooled[is_fitted].mean(axis=0), rtol=1e-5, atol=1e-6)
    normal = watched.of(watched.pooled[watched.is_minority == 0])
    np.testing.assert_allclose(normal.std(axis=0), 1.0, rtol=1e-4)


def test_the_file_gives_them_for_every_test_image(opened: OpenRun, watched: WatchedFeatures) -> None:
    model = load_model(opened.model)
    rows = list(opened.data.test)
    files = [opened.data.file_of(row) for row in rows]
    images = np.stack([decode_file(file, model.decode).pixels for file in files])
    watched.loaded.fill(opened.data, rows, opened.config.decode, "cpu")
    expected = watched.of(watched.loaded.rows(opened.data, rows, opened.config.decode).pooled())
    found = model.run(images).watched_features
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(watched.of(pooled_of_pixels(watched.loaded, images)), expected, atol=1e-3)
    kept = reference_of(model.document)
    assert kept is not None
    assert kept.n_features == found.shape[1] == watched.directions.shape[1]


def test_the_parity_gate_holds_the_file_to_them(opened: OpenRun, watched: WatchedFeatures) -> None:
    gate = gate_images(opened, 14)
    scores, fitted = gate.member_scores, opened.fitted
    mine = watched_of_gate(opened, watched, gate)
    expected = Expected(
        scores,
        fitted.predict(scores),
        fitted.p_normal_bounds(scores, 0.005),
        gate.spreads,
        watched_features=mine,
    )
    report = check_parity(opened.model, gate.images, expected)
    assert report.max_watched_difference is not None
    assert report.max_watched_difference < 1e-3
    for wrong in (mine + 0.1, mine * np.nan):
        with pytest.raises(ModelError, match="stage watched features"):
            check_parity(opened.model, gate.images, dataclasses.replace(expected, watched_features=wrong))


def test_they_are_no_column_of_scores(fitted: tuple[Run, Outcome], tmp_path: Path) -> None:
    run, _ = fitted
    out = tmp_path / "out"
    assert run_command("score", run.folder / "model.onnx", run.dataset / "test", "--output", out).code == 0
    names = pq.read_table(next(out.glob("*.parquet"))).column_names
    assert not [name for name in names if "feature" in name]


def test_without_a_member_that_reads_pooled_features_there_are_none(opened: OpenRun) -> None:
    columns = tuple(column for column in opened.fitted.columns if column.member == "patchcore")

    alone = copy.copy(opened)
    vars(alone)["fitted"] = dataclasses.replace(opened.fitted, columns=columns)
    assert watched_features(alone) is None
