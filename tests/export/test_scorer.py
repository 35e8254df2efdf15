"""The scorer for programs of one's own."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.errors import UsageError
from export.scorer import Scorer
from tests import fixtures_onnx, hostile

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def model(tmp_path) -> Path:
    return fixtures_onnx.write_two_class_model(tmp_path / "model.onnx")


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_files_in_order_with_a_broken_one_between(model, tmp_path):
    paths = hostile.write_noise_images(tmp_path / "images", 5)
    broken = tmp_path / "broken.png"
    broken.write_bytes(paths[0].read_bytes()[:60])
    given = [*paths[:2], broken, *paths[2:], tmp_path / "absent.png"]
    results = list(Scorer(model).score_files(given, batch_size=3))
    assert [result.name for result in results] == [str(path) for path in given]
    assert [result.error is None for result in results] == [True, True, False, True, True, True, False]
    for result, path in zip(results, given, strict=True):
        if result.error is None:
            expected = fixtures_onnx.expected_probability(pixels_of(path))
            assert result.probability == pytest.approx(expected, abs=1e-5)
            assert result.probabilities.tolist() == pytest.approx([1 - expected, expected], abs=1e-5)
            assert result.decision == ("light" if expected >= 0.5 else "dark")
            assert result.decision_probability == pytest.approx(max(expected, 1 - expected), abs=1e-5)
            assert result.member_scores.shape == (2,)
        else:
            assert result.probability is result.decision is result.member_scores is None


def test_bytes_say_the_same_as_files(model, tmp_path):
    paths = hostile.write_noise_images(tmp_path / "images", 3)
    scorer = Scorer(model)
    of_files = [result.probability for result in scorer.score_files(paths)]
    of_bytes = [result.probability for result in scorer.score_bytes((p.name, p.read_bytes()) for p in paths)]
    assert of_files == of_bytes


def test_pixels_and_overrides(model):
    images = np.full((2, fixtures_onnx.SIZE, fixtures_onnx.SIZE, 3), 128, dtype=np.uint8)
    own = Scorer(model).score_pixels(images)
    rare = Scorer(model, prior=0.01).score_pixels(images)
    assert own.probability[0] == pytest.approx(0.5, abs=0.01)
    assert rare.probability[0] == pytest.approx(fixtures_onnx.expected_probability(images[0], 0.01), abs=1e-5)
    with pytest.raises(UsageError, match=r"prior is 1\.5"):
        Scorer(model, prior=1.5)


def test_only_a_batch_is_read_ahead(model):
    asked = []

    def endless():
        while True:
            asked.append(1)
            data = io.BytesIO()
            Image.new("RGB", (8, 8)).save(data, "PNG")
            yield "black", data.getvalue()

    results = Scorer(model).score_bytes(endless(), batch_size=4)
    for _ in range(4):
        next(results)
    assert len(asked) == 4


def test_of_many_classes_the_probability_is_still_the_minoritys(tmp_path):
    path = fixtures_onnx.write_three_class_model(tmp_path / "model.onnx")
    images = hostile.write_noise_images(tmp_path / "images", 8)
    scorer = Scorer(path)
    results = list(scorer.score_files(images))
    for result in results:
        assert result.probabilities.shape == (3,)
        assert result.probability == result.probabilities[2]
        assert result.decision_probability == result.probabilities[scorer.classes.index(result.decision)]
    assert any(result.probability != result.probabilities.max() for result in results)


def test_no_torch_and_nothing_of_training(model):
    code = (
        "import sys; from export.scorer import Scorer; Scorer(sys.argv[1]); "
        "print([name for name in ('torch', 'sklearn', 'pandas', 'typer') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_arrays_say_the_same_as_files_of_the_same_pixels(model, tmp_path):
    paths = hostile.write_noise_images(tmp_path / "images", 3)
    large = tmp_path / "large.png"
    Image.effect_noise((97, 61), 60).convert("RGB").save(large)
    paths.append(large)
    scorer = Scorer(model)
    of_files = list(scorer.score_files(paths))
    of_arrays = scorer.score([pixels_of(path) for path in paths])
    assert [each.probability for each in of_arrays] == [each.probability for each in of_files]
    assert [each.name for each in of_arrays] == ["0", "1", "2", "3"]
    stacked = np.stack([pixels_of(path) for path in paths[:3]])
    assert [each.probability for each in scorer.score(stacked)] == [each.probability for each in of_files[:3]]


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((8, 8, 3)),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), "u1"),
    ],
)
def test_arrays_that_are_no_pictures(model, picture):
    with pytest.raises(UsageError, match=r"picture 1: got .* but uint8 \[H, W, 3\] RGB is expected"):
        Scorer(model).score([np.zeros((8, 8, 3), np.uint8), picture])


def test_info_is_what_the_file_says_of_itself(model):
    scorer = Scorer(model)
    info = scorer.info
    assert info["file"] == str(model)
    assert info["classes"] == list(scorer.classes) == ["dark", "light"]
    assert len(info["sha256"]) == 64
    info["classes"].clear()
    assert scorer.info["classes"] == ["dark", "light"]
