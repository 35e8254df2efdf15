"""Backbones in int8: which nodes are touched, which never, and what is refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from contracts.errors import ModelError
from export.graph_parts import part_of
from export.int8 import quantise_backbones
from export.scoring import load_model
from tests import fixtures_onnx as onnx_files
from tests import hostile
from tests.conftest import Outcome, Run


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
    assert (model.run(images, prior=0.9).probability > model.run(images, prior=0.1).probability).all()
    assert np.abs(whole.member_scores - reference.run(images).member_scores).max() > 0


def test_a_file_without_backbone_convolutions_is_refused(tmp_path: Path) -> None:
    source = onnx_files.write_two_class_model(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="no backbone in it has a convolution"):
        quantise_backbones(source, tmp_path / "q.onnx", np.zeros((8, 16, 16, 3), dtype=np.uint8))
    assert not (tmp_path / "q.onnx").exists()
