"""Two runtimes behind one face: the same numbers, the same refusals, a choice that can be accounted for."""

import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pytest

from contracts.errors import ModelError, UsageError
from contracts.files import read_json
from export.scoring import load_model, score_images
from export.scoring.model import ScoringModel
from export.scoring.plan import Shard
from export.scoring.runtimes import openvino_session
from export.scoring.runtimes.selection import choose_runtime
from tests import fixtures_onnx as onnx_files
from tests import hostile

needs_openvino = pytest.mark.skipif(
    __import__("importlib").util.find_spec("openvino") is None, reason="needs the extra fast (openvino)"
)


@pytest.fixture
def images() -> np.ndarray:
    return np.stack([hostile.noise(seed, 16, 16) for seed in range(7)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    hostile.write_noise_images(tmp_path / "images", 70)
    return tmp_path / "images"


def shard_of(paths: list[str]) -> Shard:
    return Shard("0" * 16, tuple(paths))


@needs_openvino
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_openvino_says_what_onnx_runtime_says(tmp_path: Path, images: np.ndarray, batch: int) -> None:
    path = onnx_files.write_two_class_model(tmp_path / "m.onnx", with_map=True)
    reference, other = load_model(path), load_model(path, runtime="openvino")
    assert (reference.session.runtime, other.session.runtime) == ("onnxruntime", "openvino")
    assert other.outputs == reference.outputs
    for changes in ({}, {"prior": 0.01}, {"threshold": 0.9}, {"prior": 0.99, "threshold": 0.0}, {}):
        expected = reference.run(images[:batch], **changes, with_maps=True)
        got = other.run(images[:batch], **changes, with_maps=True)
        np.testing.assert_allclose(got.probability, expected.probability, atol=1e-5)
        np.testing.assert_array_equal(got.decision, expected.decision)
        np.testing.assert_allclose(got.member_scores, expected.member_scores, atol=1e-5)
        np.testing.assert_allclose(got.anomaly_map, expected.anomaly_map, atol=1e-5)
        plain = other.run(images[:batch], **changes)
        assert plain.anomaly_map is None
        np.testing.assert_array_equal(plain.probability, got.probability)


@needs_openvino
def test_openvino_takes_three_classes(tmp_path: Path, images: np.ndarray) -> None:
    path = onnx_files.write_three_class_model(tmp_path / "m.onnx")
    expected, got = load_model(path).run(images), load_model(path, runtime="openvino").run(images)
    np.testing.assert_allclose(got.probability, expected.probability, atol=1e-5)


@needs_openvino
def test_openvino_refuses_pixels_that_it_would_have_to_resize(tmp_path: Path) -> None:
    model = load_model(onnx_files.write_two_class_model(tmp_path / "m.onnx"), runtime="openvino")
    with pytest.raises(ModelError, match=r"images of 20x16 pixels.*Decode them to 16x16"):
        model.run(np.zeros((1, 20, 16, 3), dtype=np.uint8))


def test_unknown_runtime_is_refused(tmp_path: Path) -> None:
    path = onnx_files.write_two_class_model(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"runtime 'openvno' is not known\. Did you mean 'openvino'\?"):
        load_model(path, runtime="openvno")


def test_missing_openvino_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    path = onnx_files.write_two_class_model(tmp_path / "m.onnx")
    with pytest.raises(
        UsageError, match=r"openvino is not installed. Give: pip install 'outnumbered\[fast\]'"
    ):
        load_model(path, runtime="openvino")


@needs_openvino
def test_bf16_is_never_computed_as_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = onnx_files.metadata(precision="bf16")
    path = onnx_files.write_two_class_model(tmp_path / "m.onnx", document)
    monkeypatch.setattr(openvino_session, "processor_capabilities", lambda: ["FP32", "INT8"])
    with pytest.raises(UsageError, match=r"no bfloat16 arithmetic .* it has FP32, INT8"):
        load_model(path, runtime="openvino")


@needs_openvino
def test_rows_of_both_runtimes_agree_and_are_not_taken_for_each_other(tmp_path: Path, folder: Path) -> None:
    model = onnx_files.write_two_class_model(tmp_path / "m.onnx")
    tables = {}
    for runtime in ("onnxruntime", "openvino"):
        summary = score_images(
            model, [folder], tmp_path / runtime, processes=2, shard_size=40, runtime=runtime
        )
        assert (summary.scored, summary.runtime) == (70, runtime)
        tables[runtime] = pads.dataset(tmp_path / runtime).to_table().to_pandas().sort_values("path")
    one, two = tables.values()
    np.testing.assert_allclose(one["probability"], two["probability"], atol=1e-5)
    with pytest.raises(UsageError, match="holds results of another run"):
        score_images(model, [folder], tmp_path / "openvino", shard_size=40)


def test_auto_keeps_to_its_choice(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx_files.write_two_class_model(tmp_path / "m.onnx")
    first = score_images(model, [folder], tmp_path / "out", processes=1, shard_size=40, runtime="auto")
    assert read_json(tmp_path / "out" / "_plan.json")["settings"]["runtime"] == first.runtime

    def must_not_be_tried(*_: object) -> None:
        raise AssertionError("the choice was made before")

    monkeypatch.setattr("export.scoring.runtimes.selection.choose_runtime", must_not_be_tried)
    again = score_images(model, [folder], tmp_path / "out", processes=1, shard_size=40, runtime="auto")
    assert (again.already_done, again.runtime) == (70, first.runtime)


@needs_openvino
def test_a_runtime_that_disagrees_is_not_chosen(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(onnx_files.write_two_class_model(tmp_path / "m.onnx"))
    paths = [str(path) for path in sorted(folder.iterdir())]
    run = ScoringModel.run

    def slightly_off(self: ScoringModel, *arguments: object, **named: object) -> object:
        scores = run(self, *arguments, **named)  # type: ignore[arg-type]
        if self.session.runtime == "openvino":
            return scores._replace(probability=scores.probability + np.float32(2e-4))
        return scores

    monkeypatch.setattr(ScoringModel, "run", slightly_off)
    chosen, trials = choose_runtime(model, shard_of(paths))
    assert chosen == "onnxruntime"
    assert [trial.runtime for trial in trials] == ["onnxruntime", "openvino"]
    assert "differ by up to 2.0e-04" in trials[1].refused


@needs_openvino
def test_a_variant_file_needs_its_gate_in_that_runtime(tmp_path: Path, folder: Path) -> None:
    document = onnx_files.metadata(precision="int8")
    model = load_model(onnx_files.write_two_class_model(tmp_path / "m.onnx", document))
    chosen, trials = choose_runtime(model, shard_of([str(path) for path in folder.iterdir()]))
    assert chosen == "onnxruntime"
    assert "has not passed the accuracy gate" in trials[1].refused


@needs_openvino
def test_a_variant_may_not_differ_by_whatever_its_gate_saw(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = {"openvino": {"accepted": True, "max_probability_difference": 0.4}}
    document = onnx_files.metadata(precision="int8", gate=gate)
    model = load_model(onnx_files.write_two_class_model(tmp_path / "m.onnx", document))
    run = ScoringModel.run

    def far_off(self: ScoringModel, *arguments: object, **named: object) -> object:
        scores = run(self, *arguments, **named)  # type: ignore[arg-type]
        if self.session.runtime == "openvino":
            return scores._replace(probability=scores.probability + np.float32(0.1))
        return scores

    monkeypatch.setattr(ScoringModel, "run", far_off)
    chosen, trials = choose_runtime(model, shard_of([str(path) for path in folder.iterdir()]))
    assert chosen == "onnxruntime"
    assert "(limit 5e-02)" in trials[1].refused


@needs_openvino
def test_a_runtime_that_failed_the_gate_of_a_variant_is_refused_with_the_reason(
    tmp_path: Path, folder: Path
) -> None:
    reason = (
        "this runtime ranks images differently (rank correlation patchcore -0.10; at least 0.8 is required)"
    )
    gate = {
        "onnxruntime": {"accepted": True, "max_probability_difference": 0.1},
        "openvino": {"accepted": False, "max_probability_difference": 0.4, "refusals": [reason]},
    }
    path = onnx_files.write_two_class_model(
        tmp_path / "m.onnx", onnx_files.metadata(precision="int8", gate=gate)
    )
    with pytest.raises(UsageError) as refused:
        load_model(path, runtime="openvino")
    assert "the int8 file failed its accuracy gate in openvino: " + reason in str(refused.value)
    assert "Score with --runtime onnxruntime, or use the fp32 file." in str(refused.value)
    chosen, trials = choose_runtime(load_model(path), shard_of([str(path) for path in folder.iterdir()]))
    assert chosen == "onnxruntime"
    assert reason in trials[1].refused


def test_no_readable_image_leaves_the_reference(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    model = load_model(onnx_files.write_two_class_model(tmp_path / "m.onnx"))
    assert choose_runtime(model, shard_of([str(tmp_path / "broken.png")])) == ("onnxruntime", ())
