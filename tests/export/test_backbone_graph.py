"""Backbones traced apart: joined they are what one trace of all gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

onnx = pytest.importorskip("onnx")

import onnxruntime  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

from contracts.errors import ModelError  # noqa: E402
from export import backbone_graph as kept_graphs  # noqa: E402
from export.graph import FusedGraph, GraphMember  # noqa: E402
from export.graph_parts import part_of  # noqa: E402
from export.onnx_file import write_onnx  # noqa: E402
from export.tracing import keep_outputs, put_into, trace  # noqa: E402
from features.tensors import BackboneFeatures  # noqa: E402

SIZE = 16


class SmallBackbone(nn.Module):
    """Two convolutions; ``width`` channels behind the second."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first, self.second = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, width, 3, 2, 1)

    def forward(self, images):
        maps = self.second(torch.relu(self.first(images / 255.0)))
        return BackboneFeatures(images, maps.mean(dim=(2, 3)), maps.half().float())


class Reader(nn.Module):
    """A score of one of the features, and a map where it is that of the patches."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, features):
        value = getattr(features, self.what)
        score = value.flatten(1).square().mean(dim=1, keepdim=True)
        return score, value.norm(dim=1) if self.what == "patches" else None


class Mean(nn.Module):
    """Stands where the ensemble would."""

    def forward(self, scores, prior, threshold):
        p = torch.sigmoid(scores.mean(dim=1)) * prior
        return p, 1.0 - p, (p >= threshold).long()


# Two of the members of the graphs below read patches, and these have maps.
OUTPUTS = [
    "probability",
    "p_normal",
    "decision",
    "member_scores",
    "anomaly_map",
    "map_patches0",
    "map_patches1",
]


class WithNamedInputs(nn.Module):
    """The exporter takes no dynamic shapes for a variable number of arguments."""

    def __init__(self, graph):
        super().__init__()
        self.inner = graph

    def forward(self, images, prior, threshold):
        return self.inner(images, prior, threshold)


def graph_of(*whats: str, n_backbones: int = 1) -> FusedGraph:
    backbones = {str(i): SmallBackbone(5 + i, i) for i in range(n_backbones)}
    members = [GraphMember(f"{w}{i}", i, Reader(w)) for i in backbones for w in whats]
    return FusedGraph(backbones, members, Mean(), SIZE).eval()


def write(path, graph, parts=None):
    write_onnx(path, graph, np.asarray(0.8), np.asarray(0.5), {}, parts)
    return path


def run(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 20, 33, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A file of two backbones and four members, for which both are traced, and their graphs."""
    graph = graph_of("pooled", "patches", n_backbones=2)
    parts = {
        key: kept_graphs.backbone_graph(backbone, SIZE)
        for key, backbone in zip(graph.backbone_keys, graph.backbones, strict=True)
    }
    return write(tmp_path_factory.mktemp("fresh") / "model.onnx", graph), parts


def test_joined_is_what_one_trace_of_all_gives(fresh, tmp_path, images):
    graph = graph_of("pooled", "patches", n_backbones=2)
    given = (torch.from_numpy(images), torch.tensor(0.8), torch.tensor(0.5))
    axes = ({n: torch.export.Dim(name) for n, name in enumerate("NHW")}, None, None)
    names = [*OUTPUTS]
    whole = trace(WithNamedInputs(graph), given, ["images", "prior", "threshold"], names, axes)
    for name, number in (("prior", 0.8), ("threshold", 0.5)):
        whole.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(number), name))
    onnx.save(whole, str(tmp_path / "whole.onnx"))
    with torch.inference_mode():
        expected = [each.numpy() for each in graph(*given)]
    for ours, at_once, torchs in zip(
        run(fresh[0], images), run(tmp_path / "whole.onnx", images), expected, strict=True
    ):
        assert np.array_equal(ours, at_once)
        np.testing.assert_allclose(ours, torchs, rtol=1e-3, atol=1e-5)


def test_inputs_outputs_and_parts_are_those_of_one_file(fresh):
    graph = onnx.load(str(fresh[0])).graph
    assert [each.name for each in graph.input] == ["images", "prior", "threshold"]
    assert [each.name for each in graph.output] == OUTPUTS
    # Every node still says whose it is, each backbone by its own number.
    convolutions = [part_of(node) for node in graph.node if node.op_type == "Conv"]
    assert convolutions.count(("backbones", 0)) == convolutions.count(("backbones", 1)) == 2
    assert len(convolutions) == 4
    assert {part_of(node)[0] for node in graph.node} == {
        "input",
        "backbones",
        "members",
        "together",
        "ensemble",
    }


def test_graphs_that_are_given_make_the_same_bytes_untraced_and_stay_as_they_are(
    fresh, tmp_path, monkeypatch
):
    path, parts = fresh
    before = [part.SerializeToString() for part in parts.values()]
    monkeypatch.setattr(kept_graphs, "trace", None)
    again = write(tmp_path / "again.onnx", graph_of("pooled", "patches", n_backbones=2), parts)
    assert again.read_bytes() == path.read_bytes()
    assert [part.SerializeToString() for part in parts.values()] == before


def test_what_nobody_reads_is_left_out(fresh, tmp_path):
    """A system of members that read pixels alone carries no backbone."""
    model = onnx.load(str(write(tmp_path / "pixels.onnx", graph_of("images"), fresh[1])))
    assert not [node for node in model.graph.node if node.op_type == "Conv"]
    assert {tensor.name for tensor in model.graph.initializer} >= {"prior", "threshold"}
    assert not [tensor.name for tensor in model.graph.initializer if tensor.name.startswith("backbones")]


def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"])


def model_of(nodes, inputs, outputs, version=18):
    graph = helper.make_graph(nodes, "by_hand", [value(n) for n in inputs], [value(n) for n in outputs])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])


def test_joining_and_ordering_by_hand(tmp_path):
    model = model_of(
        [
            # Last things first: the order is the joining's business.
            helper.make_node("Add", ["p/out", "early"], ["sum"], "add"),
            helper.make_node("Neg", ["x"], ["early"], "early"),
            helper.make_node("Neg", ["sum"], ["unused"], "dead"),
        ],
        ["x", "p/out"],
        ["sum", "early", "unused"],
    )
    part = model_of([helper.make_node("Exp", ["in"], ["out"], "exp")], ["in"], ["out"])
    put_into(model, part, "p/", {"in": "early"})
    keep_outputs(model.graph, ["sum"])
    onnx.checker.check_model(model, full_check=True)
    assert [node.name for node in model.graph.node] == ["early", "p/exp", "add"]
    onnx.save(model, str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    x = np.array([0.5, -1.0], dtype=np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], np.exp(-x) - x, rtol=1e-6)


def test_other_versions_of_the_operators_are_refused():
    model = model_of([helper.make_node("Neg", ["p/out"], ["y"])], ["p/out"], ["y"])
    part = model_of([helper.make_node("Exp", ["in"], ["out"])], ["in"], ["out"], version=17)
    with pytest.raises(ModelError, match="stage joining: operators '' of versions 18 and 17"):
        put_into(model, part, "p/", {"in": "x"})
