"""A model of anomalib that cannot be exported is used up to the stacker, and everything says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.errors import ExitCode
from tests.conftest import Outcome, Run

RECIPE = """\
name: tiny
folds: 2
bootstrap: 100
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  cnn: {max_iterations: 20}
  density:
    type: anomalib:DFKDE
    weights: random
    image_size: 32
    arguments: {backbone: test_resnet, layers: [layer2], n_pca_components: 4}
"""

Command = Callable[..., Outcome]


@pytest.fixture(scope="module")
def run(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "tiny.yaml").write_text(RECIPE)
    run = Run(trained.dataset, folder / "tiny.yaml", folder / "runs")
    # With the backbone's features and its traced graph, which are not what this is about.
    shutil.copytree(trained.runs / "features", run.runs / "features")
    outcome = run.command("train-all", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["left_out"] == {}
    return run


@pytest.fixture(scope="module")
def file_without(run: Run) -> Path:
    """The remedy: the same run's ensemble without the member, which has a file."""
    outcome = run.command("ensemble", "-o", "members.density=false", "--json")
    assert outcome.code == 0, outcome.err
    assert "not_exported" not in outcome.json
    assert {row["name"] for row in outcome.json["rows"]}.isdisjoint({"density"})
    path = Path(outcome.json["model"])
    assert path.is_file()
    return path


@pytest.fixture(scope="module")
def with_it(run: Run, file_without: Path) -> Outcome:
    outcome = run.command("ensemble", "--json")
    assert outcome.code == 0, outcome.err
    return outcome


def test_ensemble_measures_and_says_that_there_is_no_file(with_it: Outcome) -> None:
    assert with_it.json["model"] is None
    assert {row["name"] for row in with_it.json["rows"]} >= {"calibrated_baseline", "density", "ensemble"}
    for said in (with_it.json["not_exported"], with_it.said):
        assert "no ONNX file, because of density" in said
        assert "-o members.density=false" in said


def test_the_file_of_another_ensemble_does_not_stay(with_it: Outcome, file_without: Path) -> None:
    assert not file_without.exists()


def test_a_finished_one_is_shown_and_not_fitted_again(run: Run, with_it: Outcome) -> None:
    assert run.command("ensemble", "--json").json == with_it.json


def test_export_refuses_and_names_the_remedy(run: Run, with_it: Outcome) -> None:
    outcome = run.command("export")
    assert outcome.code == ExitCode.MODEL
    assert "because of density" in outcome.said
    assert "-o members.density=false" in outcome.said
