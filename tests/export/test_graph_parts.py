"""Taking exported files apart."""

from __future__ import annotations

import json
import shutil

import onnx
import pytest

from contracts.errors import ModelError
from export.graph_parts import _flop_of_node, inspect_graph, members_of_output
from export.onnx_file import add_metadata
from export.scoring import load_model
from export.scoring.promises import METADATA_KEY
from tests import fixtures_onnx
from tests.conftest import run_command


@pytest.fixture(scope="module")
def exported(fitted):
    run, _ = fitted
    return run.folder / "model.onnx"


def test_every_node_and_weight_lies_in_one_part(exported):
    parts = inspect_graph(load_model(exported))
    document = onnx.load(str(exported))
    names = [part.name for part in parts]
    assert names[:2] == ["input", "backbone test_efficientnet"]
    beside_members = {"watched features", "maps together"}
    assert set(names[2:-1]) <= {"patchcore", "deep_svdd", "cnn", "cnn_weighted"} | beside_members
    assert "watched features" in names
    assert names[-1] == "ensemble"
    assert sum(part.nodes for part in parts) == len(document.graph.node)
    n_bytes = sum(len(tensor.raw_data) for tensor in document.graph.initializer)
    assert sum(part.weight_bytes for part in parts) == pytest.approx(n_bytes, rel=1e-3)
    assert all(part.ms > 0 for part in parts)


def test_whose_map_it_is(exported, tmp_path):
    # The tiny recipe's members in order; PatchCore alone has a map.
    assert load_model(exported).members[0] == "patchcore"
    assert members_of_output(exported, "anomaly_map") == ("patchcore",)
    with pytest.raises(ModelError, match="none of its members gives an output 'nothing'"):
        members_of_output(exported, "nothing")
    # Behind another member the number in the graph leads to the right name.
    document = onnx.load(str(exported))
    entry = next(each for each in document.metadata_props if each.key == METADATA_KEY)
    promised = json.loads(entry.value)
    promised["members"][0] = "another"
    entry.value = json.dumps(promised)
    onnx.save(document, str(tmp_path / "renamed.onnx"))
    assert members_of_output(tmp_path / "renamed.onnx", "anomaly_map") == ("another",)


def test_operations_by_hand():
    made = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Cast", ["images"], ["real"], "cast", to=1),
            onnx.helper.make_node("Transpose", ["real"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
            onnx.helper.make_node(
                "Conv", ["planes", "kernel"], ["maps"], "conv", pads=[1, 1, 1, 1], strides=[2, 2]
            ),
            onnx.helper.make_node("GlobalAveragePool", ["maps"], ["means"], "pool"),
            onnx.helper.make_node("Flatten", ["means"], ["flat"], "flatten"),
            onnx.helper.make_node("MatMul", ["flat", "matrix"], ["out"], "matmul"),
        ],
        "by_hand",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["N", "H", "W", 3])],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["N", 5])],
        [
            onnx.helper.make_tensor("kernel", onnx.TensorProto.FLOAT, [4, 3, 3, 3], [0.0] * 108),
            onnx.helper.make_tensor("matrix", onnx.TensorProto.FLOAT, [4, 5], [0.0] * 20),
        ],
    )
    flop = _flop_of_node(onnx.helper.make_model(made), side=8)
    assert flop == {"conv": 2 * (4 * 4 * 4) * (3 * 3 * 3), "matmul": 2 * 5 * 4}


def test_command(exported):
    outcome = run_command("inspect", exported, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["gflop"] == pytest.approx(sum(part["gflop"] for part in outcome.json["parts"]))
    assert outcome.json["metadata"]["minority"] == "odd"
    assert "minority: odd" in outcome.said
    assert outcome.json["sha256"] in outcome.said


def test_scaled_jpeg_decoding_is_said_where_it_is_on_and_nowhere_else(exported, tmp_path):
    scaled = tmp_path / "scaled.onnx"
    shutil.copy(exported, scaled)
    # By the function that seals the file again: others are refused, as changed since they were exported.
    add_metadata(scaled, {"decode": {**load_model(exported).document["decode"], "scaled": True}})
    outcome = run_command("inspect", tmp_path / "scaled.onnx", "--json")
    assert outcome.json["metadata"]["decode"]["scaled"] is True
    assert "JPEGs of at least 128 px on both sides are reduced while they are decoded" in outcome.said
    assert "reduced while" not in run_command("inspect", exported).said


def test_file_that_does_not_say_where_its_nodes_are_from(tmp_path):
    path = fixtures_onnx.write_two_class_model(tmp_path / "model.onnx")
    outcome = run_command("inspect", path)
    assert outcome.code == 5
    assert "cannot be taken apart. Export it again" in outcome.said


@pytest.mark.parametrize(("content", "code"), [(None, 2), (b"no graph", 5)])
def test_no_model(tmp_path, content, code):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    outcome = run_command("inspect", path)
    assert outcome.code == code
    assert "model.onnx" in outcome.said
