"""Maps in the exported file: those of the members, all of them together, and none where none is asked for."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from contracts.member import FitContext
from export.graph import FusedGraph, GraphMember, MeanOfMembers
from export.graph_parts import members_of_output, part_of
from export.map_fusion import MapsTogether
from export.onnx_file import write_onnx
from export.scoring.model import load_model
from export.scoring.runtimes.pruned_graph import without_outputs
from features.apply import maps_with_module
from oneclass.patchcore.member import PatchCore
from oneclass.patchcore.settings import PatchCoreSettings
from oneclass.subspace import Subspace, SubspaceSettings
from supervised.head import HeadCnn
from supervised.patch_head.member import PatchHead
from supervised.patch_head.settings import PatchHeadSettings
from supervised.settings import CnnSettings
from tests import fixtures_onnx
from tests.rows import ArrayRows, Base
from tests.threads import one_thread  # noqa: F401

SIZE, GRID, CHANNELS = 32, 8, 5
USUAL = {"patchcore": (0.2, 1.4), "subspace": (0.5, 2.0), "patch_head": (-3.0, 1.0), "twice": (0.1, 1.1)}
WITH_MAP = ("patchcore", "subspace", "patch_head", "twice")


class Averages(nn.Module):
    """A backbone that is quick to trace: a random mixture of the colours, averaged cell by cell."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.mixture = nn.Parameter(torch.randn(CHANNELS, 3, 1, 1, generator=generator) / 20)

    def forward(self, images):
        from features.tensors import BackboneFeatures

        mixed = nn.functional.conv2d(images, self.mixture).relu()
        patches = nn.functional.avg_pool2d(mixed, SIZE // GRID).half().float()
        return BackboneFeatures(images, patches.mean(dim=(2, 3)), patches)


class AtRandom(nn.Module):
    """Stands where the ensemble would."""

    def forward(self, scores, prior, threshold):
        p = torch.sigmoid(scores.mean(dim=1)) * prior
        return p, 1.0 - p, (p >= threshold).long()


def rows(backbone, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 120, (36, GRID, GRID, 3), dtype=np.uint8)
    labels = np.repeat([0, 1], [26, 10])
    images[26:, 2:4, 3:5] += 90
    images = images.repeat(SIZE // GRID, axis=1).repeat(SIZE // GRID, axis=2)
    with torch.inference_mode():
        features = backbone(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    return ArrayRows(Base(labels, features.pooled.numpy(), features.patches.numpy(), images, 2, SIZE))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Modules by name, the graph, the rows that nobody was fitted on, and the file."""
    backbone = Averages().eval()
    train = rows(backbone, 0)
    few = {"hidden": 4, "bank_patches": 30, "least_steps": 20, "epochs": 1}
    members = {
        "patchcore": PatchCore(PatchCoreSettings(pca_dim=3, bank_size=40, map_size=12, map_sigma=1.0)),
        "subspace": Subspace(SubspaceSettings()),
        "cnn": HeadCnn(CnnSettings()),
        "patch_head": PatchHead(PatchHeadSettings(**few)),
    }
    modules = {name: member.fit(train, FitContext(0)).to_module() for name, member in members.items()}
    again = Subspace(SubspaceSettings(variance=0.5)).fit(train, FitContext(1)).to_module()
    modules["twice"] = MeanOfMembers([modules["subspace"], again])
    graph = FusedGraph(
        {"b": backbone},
        [GraphMember(name, "b", module, USUAL.get(name)) for name, module in modules.items()],
        AtRandom(),
        SIZE,
    ).eval()
    path = tmp_path_factory.mktemp("maps") / "model.onnx"
    write_onnx(path, graph, np.asarray(0.5), np.asarray(0.5), fixtures_onnx.metadata(members=list(modules)))
    return modules, graph, rows(backbone, 1), path


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_each_map_is_that_of_the_training_code(made, batch):
    modules, _, held_out, path = made
    some = held_out.subset(np.arange(20, 20 + batch))
    found = load_model(path).run(some.images(np.arange(batch)), with_maps=True)
    assert tuple(found.maps) == WITH_MAP
    needs = frozenset({"patches"})
    expected = {name: maps_with_module(modules[name], some, needs) for name in WITH_MAP}
    for name in WITH_MAP:
        assert found.maps[name].shape == (batch, *((12, 12) if name == "patchcore" else (GRID, GRID)))
        np.testing.assert_allclose(found.maps[name], expected[name], rtol=1e-3, atol=2e-3)
    together = MapsTogether([USUAL[name] for name in WITH_MAP])(
        [torch.from_numpy(expected[name]) for name in WITH_MAP]
    )
    assert found.anomaly_map.shape == (batch, 12, 12)
    np.testing.assert_allclose(found.anomaly_map, together, rtol=1e-3, atol=2e-3)


def test_together_is_the_mean_on_one_scale_and_the_finest_grid():
    fine = np.array([[0.0, 1.0], [2.0, 3.0]], dtype=np.float32)[None]
    coarse = np.array([[7.0]], dtype=np.float32)[None]
    given = [torch.from_numpy(fine), None, torch.from_numpy(coarse), torch.from_numpy(1e6 * fine)]
    found = MapsTogether([(1.0, 2.0), None, (5.0, 9.0), None])(given)
    np.testing.assert_allclose(found[0], ((fine[0] - 1.0) + 0.5) / 2)
    assert MapsTogether([None, None])([None, None]) is None


def test_without_maps_the_scores_are_the_same_bits_and_what_maps_need_is_gone(made):
    _, _, held_out, path = made
    model, images = load_model(path), held_out.images(np.arange(5))
    plain, mapped = model.run(images), model.run(images, with_maps=True)
    assert (plain.anomaly_map, dict(plain.maps)) == (None, {})
    for name in ("probability", "p_normal", "decision", "member_scores"):
        assert np.array_equal(getattr(plain, name), getattr(mapped, name))
    whole = onnx.load(str(path))
    maps = [each.name for each in whole.graph.output if "map" in each.name]
    pruned = onnx.load_from_string(without_outputs(path.read_bytes(), maps))
    onnx.checker.check_model(pruned)
    kept = {node.name for node in pruned.graph.node}
    gone = [node for node in whole.graph.node if node.name not in kept]
    # The join of the maps, the residuals of single patches, and PatchCore's upsampling.
    assert {part_of(node) for node in gone} >= {("together", 0), ("members", 0), ("members", 1)}
    assert "together" not in {part_of(node)[0] for node in pruned.graph.node}
    subspace = [node.op_type for node in gone if part_of(node) == ("members", 1)]
    assert subspace.count("MatMul") >= 2
    assert {each.name for each in pruned.graph.output} == {
        "probability",
        "p_normal",
        "decision",
        "member_scores",
    }
    read = {name for node in pruned.graph.node for name in node.input}
    assert {each.name for each in pruned.graph.initializer} <= read


def test_pruning_keeps_all_but_what_is_unwanted(tmp_path):
    path = fixtures_onnx.write_two_class_model(tmp_path / "m.onnx", with_map=True)
    content = path.read_bytes()
    whole, same = onnx.load_from_string(content), onnx.load_from_string(without_outputs(content, []))
    assert same == whole
    pruned = onnx.load_from_string(without_outputs(content, ["anomaly_map"]))
    assert [each for each in whole.graph.node if each.output[0] != "anomaly_map"] == list(pruned.graph.node)
    assert pruned.metadata_props == whole.metadata_props
    with pytest.raises(ValueError, match=r"no field of Protocol Buffers|ends behind its message"):
        without_outputs(b"\x07" + content[1:100], ["anomaly_map"])


def test_graphs_inside_of_nodes_keep_what_they_read(tmp_path):
    """An If whose branches read values from around it, as exporters write it."""
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    branches = {
        f"{which}_branch": helper.make_graph(
            [helper.make_node(operator, ["outside"], [which])],
            which,
            [],
            [helper.make_tensor_value_info(which, floats, [None])],
        )
        for which, operator in (("then", "Neg"), ("else", "Abs"))
    }
    graph = helper.make_graph(
        [
            helper.make_node("Exp", ["x"], ["outside"]),
            helper.make_node("Sqrt", ["x"], ["unwanted"]),
            helper.make_node("If", ["flag"], ["y"], **branches),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", floats, [None]),
            helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info(name, floats, [None]) for name in ("y", "unwanted")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    pruned = without_outputs(model.SerializeToString(), ["unwanted"])
    assert [node.op_type for node in onnx.load_from_string(pruned).graph.node] == ["Exp", "If"]
    session = onnxruntime.InferenceSession(pruned, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.zeros(2, np.float32), "flag": np.asarray(True)})
    np.testing.assert_array_equal(found, [-1.0, -1.0])


def test_who_is_behind_a_map(made):
    path = made[3]
    assert members_of_output(path, "anomaly_map") == WITH_MAP
    for name in WITH_MAP:
        assert members_of_output(path, f"map_{name}") == (name,)
