"""A backbone's own graph: kept beside its features, made again where it is no good."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from features.backbones import Backbone
from features.graphs import backbone_graph as graphs
from features.settings import BackboneSettings


@pytest.fixture(scope="module")
def backbone():
    return Backbone(
        BackboneSettings(
            name="test_resnet", weights="random", image_size=32, patch_strides=(4, 8), pooled_strides=(8, 16)
        )
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory, backbone):
    folder = tmp_path_factory.mktemp("kept")
    graphs.backbone_graph(backbone, folder)
    return folder


def test_a_kept_graph_is_read_and_not_traced_again(kept, backbone, monkeypatch):
    [path] = kept.iterdir()
    monkeypatch.setattr("torch.onnx.export", None)
    assert graphs.backbone_graph(backbone, kept).SerializeToString() == path.read_bytes()


def test_tracing_leaves_the_backbone_as_it_is(kept, backbone):
    assert kept.is_dir()
    in_place = [module for module in backbone.modules() if hasattr(module, "inplace")]
    assert in_place
    assert all(module.inplace for module in in_place)


def test_a_damaged_kept_graph_is_traced_anew(kept, backbone, tmp_path):
    [whole] = kept.iterdir()
    damaged = tmp_path / whole.name
    damaged.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    graph = graphs.backbone_graph(backbone, tmp_path)
    assert damaged.read_bytes() == whole.read_bytes()
    assert graph == onnx.load(str(whole))


@pytest.mark.parametrize("damage", [b"", b"no graph", None])
def test_what_is_no_graph_of_a_backbone_counts_for_nothing(tmp_path, damage):
    path = tmp_path / "graph.onnx"
    if damage is not None:
        path.write_bytes(damage)
    assert graphs._read(path) is None


def test_other_versions_of_the_tracer_keep_their_own(monkeypatch):
    mine = graphs._tracers()
    monkeypatch.setattr(graphs.metadata, "version", lambda name: "99")
    assert graphs._tracers() != mine


def test_bytes_go_in_and_halves_come_out_with_the_same_numbers(kept, backbone):
    """Half precision loses nothing, as the backbone has rounded its patches to it."""
    graph = graphs.backbone_graph(backbone, kept)
    before = graph.SerializeToString()
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    pixels = images.transpose(0, 3, 1, 2).astype(np.float32)
    whole = graphs.from_bytes_to_halves(graph)
    onnx.checker.check_model(whole, full_check=True)
    sessions = [
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        for model in (graph, whole)
    ]
    pooled, patches = sessions[0].run(None, {"pixels": pixels})
    of_bytes = sessions[1].run(None, {"images": images})
    np.testing.assert_allclose(of_bytes[0], pooled, rtol=1e-6)
    assert of_bytes[1].dtype == np.float16
    np.testing.assert_allclose(of_bytes[1].astype(np.float32), patches, rtol=2e-3, atol=1e-6)
    assert graph.SerializeToString() == before
