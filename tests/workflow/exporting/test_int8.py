"""Backbones in int8: which nodes are touched, which never, and what is refused."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from scipy.stats import spearmanr

from contracts.errors import ModelError
from export.graph_parts import SCOPES, part_of
from export.scoring import load_model
from export.scoring.model import RUNTIMES
from tests import fixtures_onnx as onnx_files
from tests import hostile
from tests.conftest import Outcome, Run
from workflow.exporting.int8 import quantise_backbones


@pytest.fixture(scope="module")
def variant(fitted: tuple[Run, Outcome], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    source = fitted[0].folder / "model.onnx"
    target = tmp_path_factory.mktemp("int8") / "model.int8.onnx"
    size = load_model(source).decode.size
    images = np.stack([hostile.noise(seed, size, size) for seed in range(12)])
    before = source.read_bytes()
    count = quantise_backbones(source, target, images)
    assert source.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["model.int8.onnx"]
    return source, target, count


def test_backbone_convolutions_but_the_first_are_int8_and_nothing_else_is(
    variant: tuple[Path, Path, int],
) -> None:
    source, target, count = variant
    before, after = onnx.load(str(source)), onnx.load(str(target))
    made_by = {name: node for node in after.graph.node for name in node.output}
    quantised = {
        node.name
        for node in after.graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm")
        and any(made_by[name].op_type == "DequantizeLinear" for name in node.input if name in made_by)
    }
    of_backbone = [
        node for node in before.graph.node if node.op_type == "Conv" and part_of(node)[0] == "backbones"
    ]
    assert len(of_backbone) > 1
    assert quantised == {node.name for node in of_backbone[1:]}
    assert count == len(of_backbone) - 1


def test_the_variant_still_scores_any_batch_and_takes_a_prior(variant: tuple[Path, Path, int]) -> None:
    source, target, _ = variant
    reference, model = load_model(source), load_model(target)
    assert model.document["members"] == reference.document["members"]
    size = model.decode.size
    images = np.stack([hostile.noise(seed, size, size) for seed in range(7)])
    whole = model.run(images)
    singles = np.concatenate([model.run(images[i : i + 1]).probability for i in range(7)])
    np.testing.assert_allclose(whole.probability, singles, atol=1e-5)
    common, rare = (model.run(images, prior=prior).probability for prior in (0.9, 0.1))
    assert (common >= rare).all()
    assert (common > rare)[common < 1].all()
    assert (common > rare).any()
    assert np.abs(whole.member_scores - reference.run(images).member_scores).max() > 0


def test_a_file_without_backbone_convolutions_is_refused(tmp_path: Path) -> None:
    source = onnx_files.write_two_class_model(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="no backbone in it has a convolution"):
        quantise_backbones(source, tmp_path / "q.onnx", np.zeros((8, 16, 16, 3), dtype=np.uint8))
    assert not (tmp_path / "q.onnx").exists()


def write_small_backbone(path: Path) -> Path:
    """A file of ours with one backbone, whose last layer has a zero point far from 0, and two members.

    ``farthest`` is the largest distance of a padded patch from a centre, as PatchCore's; ``mean`` reads the
    layer without padding.
    """
    rng = np.random.default_rng(0)
    constants = {
        "w0": rng.normal(size=(8, 3, 3, 3)) / 300.0,
        "w1": rng.normal(size=(4, 8, 1, 1)),
        "b1": np.full(4, -1.5),
        "centre": np.full((1, 4, 1, 1), -1.5),
        "prior": 0.5,
        "threshold": 0.5,
    }
    axes = {"space": [2, 3], "channels": [1]}

    def node(room: str, kind: str, inputs: list[str], output: str, **settings: object) -> onnx.NodeProto:
        made = helper.make_node(kind, inputs, [output], name=output, **settings)
        made.metadata_props.add(key=SCOPES, value=f"['', '{room}']")
        return made

    nodes = [
        node("", "Cast", ["images"], "floats", to=onnx.TensorProto.FLOAT),
        node("", "Transpose", ["floats"], "pixels", perm=[0, 3, 1, 2]),
        node("backbones.0", "Conv", ["pixels", "w0"], "first", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("backbones.0", "Relu", ["first"], "rectified"),
        node("backbones.0", "Conv", ["rectified", "w1", "b1"], "layer"),
        node(
            "backbones.0",
            "AveragePool",
            ["layer"],
            "patches",
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            count_include_pad=1,
        ),
        node("members.0", "Sub", ["patches", "centre"], "apart"),
        node("members.0", "Mul", ["apart", "apart"], "squared"),
        node("members.0", "ReduceSum", ["squared", "channels"], "distance", keepdims=1),
        node("members.0", "ReduceMax", ["distance", "space"], "most", keepdims=0),
        node("members.1", "ReduceMean", ["layer", "space"], "means", keepdims=0),
        node("members.1", "ReduceMean", ["means", "channels"], "mean", keepdims=1),
        node("", "Concat", ["most", "mean"], "member_scores", axis=1),
        node("ensemble", "ReduceMean", ["member_scores", "channels"], "logit", keepdims=0),
        node("ensemble", "Sigmoid", ["logit"], "unshifted"),
        node("ensemble", "Mul", ["unshifted", "prior"], "probability"),
        node("ensemble", "GreaterOrEqual", ["probability", "threshold"], "is_minority"),
        node("ensemble", "Cast", ["is_minority"], "decision", to=onnx.TensorProto.INT64),
    ]
    outputs = [("probability", 1, ["N"]), ("decision", 7, ["N"]), ("member_scores", 1, ["N", 2])]
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["N", 16, 16, 3]),
            helper.make_tensor_value_info("prior", 1, []),
            helper.make_tensor_value_info("threshold", 1, []),
        ],
        [helper.make_tensor_value_info(*output) for output in outputs],
        [
            *(numpy_helper.from_array(np.asarray(v, np.float32), name) for name, v in constants.items()),
            *(numpy_helper.from_array(np.asarray(v, np.int64), name) for name, v in axes.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    document = onnx_files.metadata(members=["farthest", "mean"], precision="int8")
    helper.set_model_props(model, {"outnumbered": json.dumps(document)})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_member_ranks_images_in_int8_as_in_float32_in_each_runtime(
    tmp_path: Path, runtime: str
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="needs the extra fast")
    source = write_small_backbone(tmp_path / "m.onnx")
    images = np.stack([hostile.noise(seed, 16, 16) // (1 + seed % 7) for seed in range(40)])
    quantise_backbones(source, tmp_path / "q.onnx", images)
    layer = [n for n in onnx.load(str(tmp_path / "q.onnx")).graph.node if n.op_type == "AveragePool"]
    assert [n.input[0] for n in layer] == ["layer"]  # not its dequantised copy
    expected = load_model(source).run(images).member_scores
    got = load_model(tmp_path / "q.onnx", runtime=runtime).run(images).member_scores
    correlations = [spearmanr(expected[:, m], got[:, m]).statistic for m in range(2)]
    # With OpenVINO's padding of the quantised layer, "farthest" has 0.49.
    assert min(correlations) > 0.97, correlations
