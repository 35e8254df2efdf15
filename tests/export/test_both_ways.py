"""Images seen as themselves and as their mirror images: the graph against training, at any batch and size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from ensemble.module import EnsembleModule
from export.graph import BothWays, FusedGraph, GraphMember, WatchedFeatures
from export.graph_parts import part_of
from export.onnx_file import write_onnx
from export.scoring.model import load_model
from features.apply import maps_as_seen, scores_as_seen
from features.backbones import NoBackbone
from tests.export.test_graph import NAMES, SIZE, System, count_convolutions, made_system, n_convolutions
from tests.rows import ArrayRows, Base
from tests.threads import one_thread  # noqa: F401


class Mirrorable(ArrayRows):
    """Images with the features that a backbone gives them, and gives their mirror images."""

    def __init__(self, backbone, base, positions=None):
        super().__init__(base, positions)
        self.backbone = backbone

    def mirrored(self):
        images = np.ascontiguousarray(self.base.images[:, :, ::-1])
        with torch.inference_mode():
            seen = self.backbone(torch.from_numpy(images).permute(0, 3, 1, 2).float())
        base = replace(self.base, images=images, pooled=seen.pooled.numpy(), patches=seen.patches.numpy())
        return ArrayRows(base, self.positions)


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> System:
    return made_system(tmp_path_factory)


def graph_of(system: System, views="mirror") -> FusedGraph:
    members = [
        GraphMember(name, "t", member.to_module()) for name, member in zip(NAMES, system.members, strict=True)
    ]
    return FusedGraph({"t": system.backbone}, members, EnsembleModule(system.fitted), SIZE, views=views)


@pytest.fixture(scope="module")
def path(system, tmp_path_factory):
    return system.write(tmp_path_factory.mktemp("both") / "model.onnx", graph_of(system))


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_file_gives_what_training_scores(system, path, batch):
    images = system.images[:14]
    with torch.inference_mode():
        seen = system.backbone(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    base = Base(np.zeros(14, dtype=np.int64), seen.pooled.numpy(), seen.patches.numpy(), images, 2, SIZE)
    rows = Mirrorable(system.backbone, base)
    expected = np.concatenate([scores_as_seen(m, rows, "mirror") for m in system.members], axis=1)
    model = load_model(path)
    ours = [model.run(images[start : start + batch], with_maps=True) for start in range(0, 14, batch)]
    found = np.concatenate([each.member_scores for each in ours])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        np.concatenate([each.probability for each in ours]), system.fitted.predict(expected), atol=2e-5
    )
    maps = maps_as_seen(system.members[0], rows, "mirror")
    np.testing.assert_allclose(
        np.concatenate([each.maps["patchcore"] for each in ours]), maps, rtol=5e-3, atol=1e-3
    )
    # It is another number than without, or nothing would have been tested.
    assert np.abs(found - system.member_scores[:14]).max() > 1e-3


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (SIZE, 91), (150, 40)])
def test_a_mirror_image_gets_the_same_scores_and_the_mirrored_map(system, path, shape):
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8).repeat(40, axis=1).repeat(40, axis=2)
    images = images[:, : shape[0], : shape[1]]
    model = load_model(path)
    one = model.run(images, with_maps=True)
    other = model.run(np.ascontiguousarray(images[:, :, ::-1]), with_maps=True)
    np.testing.assert_allclose(one.member_scores, other.member_scores, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(one.anomaly_map, other.anomaly_map[:, :, ::-1], rtol=5e-3, atol=1e-3)
    alone = load_model(system.path)
    of_one, of_other = (
        alone.run(np.ascontiguousarray(each)).member_scores for each in (images, images[:, :, ::-1])
    )
    np.testing.assert_allclose(one.member_scores, (of_one + of_other) / 2, rtol=1e-3, atol=1e-4)


def test_watched_features_are_of_the_image_as_it_came(system, tmp_path):
    """They tell an image from its mirror image, which the scores of such a file do not."""
    rng = np.random.default_rng(0)
    dim = system.backbone.shapes.pooled_dim
    mean, directions = rng.normal(size=dim).astype(np.float32), rng.normal(size=(dim, 3)).astype(np.float32)
    images = system.images[:7]
    with torch.inference_mode():
        pooled = system.backbone(torch.from_numpy(images).permute(0, 3, 1, 2).float()).pooled.numpy()
    for views in ("mirror", "none"):
        graph = graph_of(system, views)
        graph.watched = WatchedFeatures("t", mean, directions)
        model = load_model(system.write(tmp_path / f"{views}.onnx", graph))
        for batch in (1, 2, 7):
            found = model.run(images[:batch]).watched_features
            np.testing.assert_allclose(found, (pooled[:batch] - mean) @ directions, rtol=1e-3, atol=1e-3)
        small = np.ascontiguousarray(images[:2, :40, :50])
        assert model.run(small).watched_features.shape == (2, 3)
        mirrored = model.run(np.ascontiguousarray(images[:, :, ::-1])).watched_features
        assert np.abs(mirrored - found).max() > 1e-2
        assert {("watched", 0)} <= {part_of(node) for node in onnx.load(str(model.path)).graph.node}


def test_the_backbone_stands_in_the_file_once_and_axes_of_one_name_have_one_length(system, path):
    assert count_convolutions(path) == n_convolutions(system.backbone)
    document = onnx.load(str(path))
    graph = document.graph
    axes = {dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim if dim.dim_param}
    doubled = f"2*{graph.input[0].type.tensor_type.shape.dim[0].dim_param}"
    of_backbone = {
        dim.dim_param
        for value in graph.value_info
        if value.name.startswith("backbones.0/")
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    }
    assert of_backbone == {doubled}
    assert doubled not in axes
    assert {"Concat", "Slice"} & {node.op_type for node in graph.node if part_of(node)[0] == "input"}


def test_without_it_nothing_is_added(system, tmp_path):
    plain, named = graph_of(system, "none"), system.graph()
    assert [type(each) for each in plain.modules()] == [type(each) for each in named.modules()]
    assert not any(isinstance(each, BothWays) for each in plain.modules())
    own, other = (onnx.load(str(each)) for each in (system.write(tmp_path / "p.onnx", plain), system.path))
    assert own.graph.SerializeToString() == other.graph.SerializeToString()


class OfPixels(nn.Module):
    """Three logits: of the left edge's colours alone."""

    def forward(self, features):
        return features.images[:, :, :, 0].mean(dim=2) / 255.0, None


class AtRandom(nn.Module):
    def forward(self, scores, prior, threshold):
        p = torch.softmax(scores, dim=1) * prior
        return p, 1.0 - p[:, 0], (p / threshold).argmax(dim=1)


def test_three_classes_and_members_of_pixels_alone(tmp_path):
    graph = FusedGraph(
        {"none": NoBackbone()}, [GraphMember("pixels", "none", OfPixels())], AtRandom(), 16, views="mirror"
    )
    path, thirds = tmp_path / "model.onnx", np.full(3, 1 / 3)
    names = ["a", "b", "c"]
    metadata = {
        "classes": names, "minority": "c", "decode": {"size": 16, "window": None},
        "members": [f"pixels:{name}" for name in names], "threshold": {"rule": "x", "value": [1.0] * 3},
        "prior": thirds.tolist(), "trained_prior": thirds.tolist(), "conformal": {"n": 3, "least": 0.25},
    }  # fmt: skip
    write_onnx(path, graph, thirds, np.ones(3), metadata)
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    edges = (images[:, :, 0].mean(axis=1) + images[:, :, -1].mean(axis=1)) / 2 / 255.0
    for batch in (1, 2, 5):
        scores = load_model(path).run(images[:batch]).member_scores
        np.testing.assert_allclose(scores, edges[:batch], atol=1e-5)
