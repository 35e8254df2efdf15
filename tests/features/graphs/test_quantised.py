"""A backbone's graph in int8: biases make up for rounded weights, and what is no convolution stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from features.graphs import quantised
from features.graphs.quantised import quantise, quantised_nodes

CHANNELS, SIDE = 8, 12


def conv(name: str, inputs: list[str], output: str, group: int = 1) -> onnx.NodeProto:
    return helper.make_node("Conv", inputs, [output], name=name, group=group, pads=[1, 1, 1, 1])


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three convolutions with ReLUs: a first, one of whole channels without a bias, and one in two groups."""
    rng = np.random.default_rng(0)
    weights = {
        "w0": rng.normal(0, 0.3, (CHANNELS, 3, 3, 3)) / 128,
        # One tap far above the others, which leaves these a coarse grid.
        "w1": rng.normal(0, 0.02, (CHANNELS, 1, 3, 3)) + 0.015,
        "w2": rng.normal(0, 0.02, (CHANNELS, CHANNELS // 2, 3, 3)) + 0.01,
        "b2": rng.normal(0, 0.1, CHANNELS),
    }
    weights["w1"][:, :, 1, 1] += 3.0
    weights["w2"][:, 0, 1, 1] += 3.0
    nodes = [
        conv("first", ["pixels", "w0"], "a0"),
        helper.make_node("Relu", ["a0"], ["r0"], name="relu0"),
        conv("depthwise", ["r0", "w1"], "a1", group=CHANNELS),
        helper.make_node("Relu", ["a1"], ["r1"], name="relu1"),
        conv("grouped", ["r1", "w2", "b2"], "out", group=2),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", CHANNELS, SIDE, SIDE])],
            [numpy_helper.from_array(each.astype(np.float32), name) for name, each in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    path = tmp_path_factory.mktemp("graph") / "small.onnx"
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (24, 3, SIDE, SIDE)).astype(np.float32)


def computed(path: Path, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    [out] = session.run(["out"], {"pixels": pixels})
    return np.asarray(out)


def test_the_first_convolution_stays_and_clippings_go_along(graph: Path) -> None:
    names = [node.name for node in quantised_nodes(onnx.load(str(graph)).graph.node)]
    assert names == ["depthwise", "relu1", "grouped"]


def test_corrected_biases_take_away_the_shift_of_the_means(
    graph: Path, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = quantised_nodes(onnx.load(str(graph)).graph.node)
    before = graph.read_bytes()
    assert quantise(graph, tmp_path / "corrected.onnx", nodes, {"pixels": pixels}) == 2
    assert graph.read_bytes() == before
    monkeypatch.setattr(quantised, "_with_corrected_biases", lambda source, *_: onnx.load(str(source)))
    quantise(graph, tmp_path / "plain.onnx", nodes, {"pixels": pixels})
    inner = np.s_[:, :, 2:-2, 2:-2]  # away from the borders, where padding makes other means
    reference = computed(graph, pixels)[inner]
    shift = {
        name: np.abs((computed(tmp_path / f"{name}.onnx", pixels)[inner] - reference).mean(axis=(0, 2, 3)))
        for name in ("plain", "corrected")
    }
    assert shift["corrected"].mean() < 0.3 * shift["plain"].mean()


def test_weights_lie_on_the_quantisers_own_grid(graph: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    """Else the quantiser would round once more, and the correction be of other weights."""
    nodes = quantised_nodes(onnx.load(str(graph)).graph.node)
    quantise(graph, tmp_path / "q.onnx", nodes, {"pixels": pixels})
    constants = {each.name: each for each in onnx.load(str(tmp_path / "q.onnx")).graph.initializer}
    source = {each.name: numpy_helper.to_array(each) for each in onnx.load(str(graph)).graph.initializer}
    for name, of in (("depthwise", "w1"), ("grouped", "w2")):
        whole = numpy_helper.to_array(constants[f"{name}_on_grid_quantized"]).astype(np.float64)
        scale = numpy_helper.to_array(constants[f"{name}_on_grid_scale"])
        assert np.abs(whole).max() <= 64
        kept = whole * scale.reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(kept, quantised._on_the_grid(source[of]), rtol=1e-5, atol=1e-7)
