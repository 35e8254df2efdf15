"""Opening an exported file: what is refused, with which words, and what the graph says."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import ExitCode, ModelError, UsageError
from export.scoring import load_model
from export.scoring.runtimes.sessions import open_onnxruntime
from export.scoring.shard import DEFAULT_BATCH_SIZE
from tests import fixtures_onnx as onnx_files
from tests import hostile
from workflow.commands.files.score import score


@pytest.fixture
def images() -> np.ndarray:
    return np.stack([hostile.noise(seed, 16, 16) for seed in range(7)])


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_scores_are_those_of_the_graph(tmp_path: Path, images: np.ndarray, batch: int) -> None:
    model = load_model(onnx_files.write_two_class_model(tmp_path / "m.onnx", with_map=True))
    scores = model.run(images[:batch], with_maps=True)
    expected = [onnx_files.expected_probability(image) for image in images[:batch]]
    np.testing.assert_allclose(scores.probability, expected, atol=1e-5)
    np.testing.assert_array_equal(scores.decision, np.array(expected) >= 0.5)
    np.testing.assert_allclose(
        scores.member_scores[:, 1], images[:batch, ..., 0].mean((1, 2)) / 255, atol=1e-5
    )
    assert scores.anomaly_map is not None
    assert scores.anomaly_map.shape == (batch, 16, 16)
    assert (model.classes, model.minority, model.members) == (("dark", "light"), "light", ("bright", "red"))
    assert model.decode.size == onnx_files.SIZE


def test_prior_and_threshold_are_overridden(tmp_path: Path, images: np.ndarray) -> None:
    model = load_model(onnx_files.write_two_class_model(tmp_path / "m.onnx"))
    expected = [onnx_files.expected_probability(image, prior=0.9) for image in images]
    np.testing.assert_allclose(model.run(images, prior=0.9).probability, expected, atol=1e-5)
    assert model.run(images, threshold=0.0).decision.tolist() == [1] * 7
    assert model.run(images, threshold=1.0).decision.tolist() == [0] * 7
    assert model.run(images, with_maps=True).anomaly_map is None


def test_loaded_at_its_first_run_it_is_the_same_model(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = onnx_files.write_two_class_model(tmp_path / "m.onnx", with_map=True)
    model = load_model(path)
    opened = []
    for module in ("model", "runtimes.loading"):
        monkeypatch.setattr(
            f"export.scoring.{module}.open_onnxruntime",
            lambda *given, **options: opened.append(options) or open_onnxruntime(*given, **options),
        )
    later = load_model(path, at_first_run=True)
    assert opened == [{"optimised": False}]
    for field in ("classes", "members", "decode", "document", "outputs", "adjustable"):
        assert getattr(later, field) == getattr(model, field)
    for _ in range(2):
        np.testing.assert_array_equal(later.run(images).probability, model.run(images).probability)
    assert opened == [{"optimised": False}, {}]
    assert later.run(images, with_maps=True).anomaly_map is not None
    assert later.run(images, with_maps=True).maps == {}  # as in files of earlier versions
    assert opened == [{"optimised": False}, {}, {}]


@pytest.mark.parametrize("prior", [0.0, 1.0, -1.0, float("nan")])
def test_impossible_prior_is_refused(tmp_path: Path, images: np.ndarray, prior: float) -> None:
    model = load_model(onnx_files.write_two_class_model(tmp_path / "m.onnx"))
    with pytest.raises(UsageError, match=r"prior is .* between 0 and 1"):
        model.run(images, prior=prior)


def test_impossible_threshold_is_refused(tmp_path: Path, images: np.ndarray) -> None:
    model = load_model(onnx_files.write_two_class_model(tmp_path / "m.onnx"))
    with pytest.raises(UsageError, match=r"threshold is 1\.5; it is a probability"):
        model.run(images, threshold=1.5)


def test_a_fixed_prior_cannot_be_overridden(tmp_path: Path, images: np.ndarray) -> None:
    model = load_model(onnx_files.write_two_class_model(tmp_path / "m.onnx", adjustable=False))
    with pytest.raises(UsageError, match="has its prior fixed"):
        model.run(images, prior=0.1)


def test_wrong_pixels_are_a_model_error(tmp_path: Path, images: np.ndarray) -> None:
    model = load_model(onnx_files.write_two_class_model(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match=r"shape \(7, 16, 16, 3\) and type float32"):
        model.run(images.astype(np.float32))


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    onnx_files.write_two_class_model(tmp_path / "bottle.onnx")
    with pytest.raises(UsageError, match=r"does not exist\. Did you mean 'bottle\.onnx'\?") as caught:
        load_model(tmp_path / "botle.onnx")
    assert caught.value.exit_code == ExitCode.USAGE


def test_folder_instead_of_file(tmp_path: Path) -> None:
    onnx_files.write_two_class_model(tmp_path / "model.onnx")
    with pytest.raises(UsageError, match=r"is a folder\. It holds model\.onnx"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"this is text", b"\x08\x0a" + bytes(200)])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="ONNX Runtime cannot load it"):
        load_model(tmp_path / "m.onnx")


def test_half_a_file(tmp_path: Path) -> None:
    path = onnx_files.write_two_class_model(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ModelError, match="copy or export it again"):
        load_model(path)


def test_onnx_of_somebody_else(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is an ONNX file but not an Outnumbered model"):
        load_model(onnx_files.write_foreign_model(tmp_path / "m.onnx"))


def test_older_format(tmp_path: Path) -> None:
    path = onnx_files.write_two_class_model(tmp_path / "m.onnx", onnx_files.metadata(format=1))
    with pytest.raises(
        ModelError, match=r"m\.onnx has format 1, .*Train and export again with this version\."
    ):
        load_model(path)


def test_newer_format(tmp_path: Path) -> None:
    path = onnx_files.write_two_class_model(tmp_path / "m.onnx", onnx_files.metadata(format=3))
    with pytest.raises(ModelError, match=r"has format 3; .* reads up to 2\. Upgrade outnumbered"):
        load_model(path)


@pytest.mark.parametrize("key", ["classes", "decode", "members"])
def test_metadata_without_a_promised_key(tmp_path: Path, key: str) -> None:
    path = onnx_files.write_two_class_model(tmp_path / "m.onnx", onnx_files.metadata(**{key: None}))
    with pytest.raises(ModelError, match=f"lacks {key}"):
        load_model(path)


def test_metadata_without_a_format(tmp_path: Path) -> None:
    path = onnx_files.write_two_class_model(tmp_path / "m.onnx", onnx_files.metadata(format=None))
    with pytest.raises(ModelError, match="metadata is damaged"):
        load_model(path)


def test_class_names_must_match_the_probability(tmp_path: Path) -> None:
    three = onnx_files.metadata(classes=["a", "b", "c"])
    path = onnx_files.write_two_class_model(tmp_path / "m.onnx", three)
    with pytest.raises(ModelError, match="3 classes do not go with a probability of 1 axes"):
        load_model(path)


def test_member_names_must_match_the_columns(tmp_path: Path) -> None:
    path = onnx_files.write_two_class_model(tmp_path / "m.onnx", onnx_files.metadata(members=["bright"]))
    with pytest.raises(ModelError, match="2 member columns but 1 member names"):
        load_model(path)


def test_the_command_takes_as_many_images_a_call_as_the_library() -> None:
    assert inspect.signature(score).parameters["batch_size"].default == DEFAULT_BATCH_SIZE
