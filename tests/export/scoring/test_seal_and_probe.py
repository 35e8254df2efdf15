"""An altered file and a machine that computes otherwise are refused; whole files pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from contracts.errors import ModelError
from export.onnx_file import add_metadata
from export.scorer import Scorer
from export.scoring import load_model
from export.scoring.probe import LIMIT, PROBE_KEY, check_probe, probe_images, probe_of, run_probe
from export.scoring.seal import check_seal, sealed
from tests import fixtures_onnx as onnx_files
from tests.conftest import Outcome, Run, run_command


@pytest.fixture
def file(fitted: tuple[Run, Outcome], tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes((fitted[0].folder / "model.onnx").read_bytes())
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 40), (60 * number, 90, 120)).save(folder / f"{number}.png")
    return folder


def flip_a_bit_of_a_weight(path: Path) -> None:
    """The lowest bit of one weight of the backbone, in the file's own bytes."""
    graph = onnx.load(str(path)).graph
    weight = max(
        (each for each in graph.initializer if each.name.startswith("backbones.0/") and each.raw_data),
        key=lambda each: len(each.raw_data),
    )
    content = bytearray(path.read_bytes())
    content[content.find(weight.raw_data) + len(weight.raw_data) // 2 // 4 * 4] ^= 1
    path.write_bytes(bytes(content))


def test_a_whole_file_passes(file: Path, images: Path, tmp_path: Path) -> None:
    assert check_seal(file)
    result = run_probe(load_model(file))
    assert result is not None
    assert result.passed
    assert result.largest < 1e-3
    assert run_command("score", file, images, "--output", tmp_path / "out").code == 0


def test_one_bit_in_a_weight_of_the_backbone_is_noticed(file: Path, images: Path, tmp_path: Path) -> None:
    flip_a_bit_of_a_weight(file)
    load_model(file)  # it opens, and would score
    for arguments in (("score", file, images, "--output", tmp_path / "out"), ("inspect", file)):
        outcome = run_command(*arguments)
        assert outcome.code == 5
        assert "its content changed since it was exported" in outcome.said
    assert not list(tmp_path.glob("out/*.parquet"))
    with pytest.raises(ModelError, match="export it again"):
        Scorer(file)


def test_facts_that_are_added_by_us_are_sealed_again(file: Path) -> None:
    add_metadata(file, {"note": "outnumbered_seal"})
    assert check_seal(file)


def test_a_machine_that_computes_otherwise_is_refused(file: Path, images: Path, tmp_path: Path) -> None:
    """As where int8 products saturate: the file is whole, and its scores are others."""
    kept = load_model(file).document[PROBE_KEY]
    scores, limits = np.asarray(kept["member_scores"]), np.asarray(kept["limits"])
    scores[1, 0] += 1.5 * limits[0]
    add_metadata(file, {PROBE_KEY: {**kept, "member_scores": scores.tolist()}})
    model = load_model(file)
    with pytest.raises(ModelError, match=rf"{model.members[0]} differs by 0\.07\d* standard deviations"):
        check_probe(model)
    outcome = run_command("score", file, images, "--output", tmp_path / "out")
    assert outcome.code == 5
    assert "does not compute this file as it was measured" in outcome.said
    assert "Take another --runtime, or export it on this machine." in outcome.said
    outcome = run_command("doctor", "--model", file, "--json")
    assert outcome.code == 5
    assert outcome.json["model"]["onnxruntime"]["probe"]["passed"] is False
    assert "computes it NOT as it was measured" in outcome.said


def test_saturation_is_seen_by_the_pictures(file: Path) -> None:
    """Weights that are clipped a little below their largest value, as saturating sums clip products."""
    document = onnx.load(str(file))
    kept = [each for each in document.graph.initializer if each.name.startswith("backbones.0/")]
    weights = [each for each in kept if len(each.dims) == 4]
    for each in weights:
        values = numpy_helper.to_array(each)
        most = 0.6 * np.abs(values).max()
        each.CopyFrom(numpy_helper.from_array(np.clip(values, -most, most), each.name))
    file.write_bytes(document.SerializeToString())
    result = run_probe(load_model(file))
    assert result is not None
    assert not result.passed


def test_scores_that_are_no_numbers_fail(file: Path) -> None:
    kept = load_model(file).document[PROBE_KEY]
    add_metadata(file, {PROBE_KEY: {**kept, "member_scores": np.full((3, 4), np.nan).tolist()}})
    result = run_probe(load_model(file))
    assert result is not None
    assert not result.passed


def test_files_of_earlier_versions_are_taken_as_they_are(tmp_path: Path, images: Path) -> None:
    path = onnx_files.write_two_class_model(tmp_path / "old.onnx")
    assert not check_seal(path)
    assert run_probe(load_model(path)) is None
    assert run_command("score", path, images, "--output", tmp_path / "out").code == 0
    outcome = run_command("doctor", "--model", path)
    assert "It states no digest of its own" in outcome.said


def test_the_pictures_are_the_same_everywhere() -> None:
    images = probe_images(64)
    assert images.shape == (3, 64, 64, 3)
    assert images.dtype == np.uint8
    # Written down once; another number means that other machines would be shown other pictures.
    assert [int(each.astype(np.int64).sum()) for each in images] == [1597440, 1587516, 1565289]
    assert probe_images(16).shape == (3, 16, 16, 3)


def test_a_column_without_spread_has_a_limit_of_its_own_size(file: Path) -> None:
    model = load_model(file)
    probe = probe_of(model, np.zeros(len(model.members)))
    largest = np.abs(probe["member_scores"]).max(axis=0)
    np.testing.assert_allclose(probe["limits"], 1e-6 * np.maximum(1.0, largest))
    assert probe_of(model, np.full(len(model.members), 2.0))["limits"] == [2.0 * LIMIT] * len(model.members)


def test_what_has_no_place_for_a_digest_cannot_be_sealed() -> None:
    with pytest.raises(ValueError, match="64 characters"):
        sealed(b"no file")
