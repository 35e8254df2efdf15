"""Ensembles on int8 and on float32 features: the same judged images, trained once, and what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import main
from contracts.files import read_json
from tests.conftest import Run
from tests.pictures import write_two_classes

FEW = (
    "folds=3",
    "bootstrap=100",
    "backbone={name: test_efficientnet, weights: random, image_size: 64}",
    *(f"members.{name}=false" for name in ("patchcore", "deep_svdd", "cnn_weighted", "patch_head")),
)


def command(dataset: Path, runs: Path, *more: object) -> list[str]:
    """``python -m benchmarks precision``, with two members of the recipe quick on a tiny backbone."""
    overrides = [part for override in FEW for part in ("-o", override)]
    return ["precision", "--sets", str(dataset), "--runs", str(runs), *overrides, *map(str, more)]


def test_both_precisions_are_judged_on_the_same_images_and_kept(
    trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = write_two_classes(tmp_path / "blotches", 30, 9, test=8)
    runs, page = tmp_path / "runs", tmp_path / "page.md"
    for precision in ("fp32", "int8"):
        trained.give_traced_backbones(runs / precision)
    assert main(command(dataset, runs, "--markdown", page)) == 0
    text = page.read_text(encoding="utf-8")
    assert "| 16 |" in text
    assert "| subspace | " in text
    assert "| ensemble | " in text
    ms, megabytes = text.split("| 16 |")[1].splitlines()[0].split("|")[2:4]
    assert "x)" in ms
    assert float(megabytes.split("→")[1]) < float(megabytes.split("→")[0])
    for precision, n_graphs in (("fp32", 0), ("int8", 1)):
        folder = runs / precision / "blotches" / "quick"
        assert len(list((runs / precision / "features").glob("*/graph-int8.onnx"))) == n_graphs
        assert read_json(folder / "metrics.json")["document"]["measured"] == "test_set"
    # What is trained is taken as it is.
    capsys.readouterr()
    assert main(command(dataset, runs)) == 0
    assert capsys.readouterr().err.count("Nothing to do") >= 2


def test_a_set_without_test_images_is_refused(
    trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = write_two_classes(tmp_path / "blotches", 20, 8)
    for precision in ("fp32", "int8"):
        trained.give_traced_backbones(tmp_path / "runs" / precision)
    assert main(command(dataset, tmp_path / "runs")) == 2
    assert "no test images that both judge" in capsys.readouterr().err
