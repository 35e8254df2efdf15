"""A backbone in int8 from the start: which images quantise it, what follows from it, and what stays."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from contracts.errors import OutnumberedError
from contracts.files import read_json
from export.scoring import load_model
from features.settings import BackboneSettings
from tests.conftest import Outcome, Run
from workflow.run.prepared import prepare_data
from workflow.settings.config import RunOptions, resolve_config
from workflow.settings.quantised import FILE
from workflow.training import quantising

INT8 = ("-o", "backbone.precision=int8")


def options_of(run: Run, precision: str = "int8", *others: str) -> RunOptions:
    return RunOptions(
        str(run.dataset),
        recipe=str(run.recipe),
        runs=run.runs,
        overrides=(f"backbone.precision={precision}", *others),
    )


@pytest.fixture(scope="module")
def in_int8(tiny: Run, trained: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Outcome]:
    folder = tmp_path_factory.mktemp("in_int8")
    shutil.copytree(tiny.dataset, folder / tiny.dataset.name)
    run = Run(folder / tiny.dataset.name, tiny.recipe, folder / "runs")
    trained.give_traced_backbones(run.runs)
    outcome = run.command("train-all", *INT8, "--json")
    assert outcome.code == 0, outcome.err
    assert run.command("ensemble", *INT8).code == 0
    return run, outcome


def test_the_majoritys_training_images_alone_set_the_ranges(in_int8: tuple[Run, Outcome]) -> None:
    run, outcome = in_int8
    [entry] = read_json(run.folder / FILE)["backbones"].values()
    data = prepare_data(resolve_config(options_of(run)))
    majority = {row.sha256 for row in data.train if row.label == data.manifest.class_names[0]}
    assert set(entry["images"]) <= majority
    assert len(entry["images"]) == len(majority) < quantising.CALIBRATION_IMAGES
    assert entry["convolutions"] > 1
    assert entry["sentence"] in outcome.said
    assert "int8 is taken" in outcome.said


def test_the_file_contains_the_graph_that_computed_the_features(in_int8: tuple[Run, Outcome]) -> None:
    run, _ = in_int8
    [kept] = (run.runs / "features").glob("*/graph-int8.onnx")
    parts = onnx.load(str(kept)).graph
    whole = onnx.load(str(run.folder / "model.onnx")).graph
    weights = {each.name: each.raw_data for each in whole.initializer}
    quantised = [each for each in parts.initializer if each.data_type == onnx.TensorProto.INT8]
    assert len(quantised) > 1
    for each in quantised:
        assert weights[f"backbones.0/{each.name}"] == each.raw_data
    document = load_model(run.folder / "model.onnx").document
    assert document["int8_backbones"] == ["test_efficientnet"]
    # No variant of another file: nothing was given away after training.
    assert "variant_of" not in document
    assert read_json(run.folder / "export.json")["parity"]["max_probability_difference"] < 1e-4


def test_features_and_members_differ_from_those_in_float32(
    in_int8: tuple[Run, Outcome], trained: Run
) -> None:
    run, _ = in_int8
    config, plain = resolve_config(options_of(run)), resolve_config(options_of(trained, "fp32"))
    assert config.recipe.backbone.int8_graph is not None
    assert config.members[0].identity() != plain.members[0].identity()
    fits, theirs = run.fit_bytes(), trained.fit_bytes()
    assert all(fits[name] != content for name, content in theirs.items())


def test_what_is_trained_is_not_trained_again(in_int8: tuple[Run, Outcome]) -> None:
    run, _ = in_int8
    assert run.command("train-all", *INT8, "--json").json["fits_run"] == 0


def test_more_images_leave_the_graph_as_it_is_and_fewer_make_it_anew(
    in_int8: tuple[Run, Outcome], tmp_path: Path
) -> None:
    run = in_int8[0].copy(tmp_path, with_dataset=True)
    config = resolve_config(options_of(run))
    data = prepare_data(config)
    [before] = read_json(run.folder / FILE)["backbones"].values()
    assert quantising.quantise_where_asked(config, data) == config
    gone = before["images"][0]
    data.train[:] = [row for row in data.train if row.sha256 != gone]
    changed = quantising.quantise_where_asked(config, data)
    [after] = read_json(run.folder / FILE)["backbones"].values()
    assert after["graph"] != before["graph"]
    assert {plan.backbone.int8_graph for plan in changed.members} == {after["graph"]}


def test_a_graph_that_is_lost_is_missed(in_int8: tuple[Run, Outcome], tmp_path: Path) -> None:
    run = in_int8[0].copy(tmp_path)
    [kept] = (run.runs / "features").glob("*/graph-int8.onnx")
    kept.unlink()
    (run.folder / "export.json").unlink()
    (run.folder / "model.onnx").unlink()
    outcome = run.command("export", *INT8)
    assert outcome.code == 5
    assert "is not there, or is another one. train-all makes it again" in outcome.said
    assert run.command("train-all", *INT8, "--json").json["fits_run"] == 0, "the same images, the same graph"
    assert run.command("export", *INT8).code == 0


@pytest.mark.parametrize(("ms", "taken"), [((3.0, 2.0), "int8"), ((3.0, 2.9), "fp32")])
def test_auto_takes_what_is_faster_here(
    in_int8: tuple[Run, Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ms: tuple[float, float],
    taken: str,
) -> None:
    run = in_int8[0].copy(tmp_path)
    monkeypatch.setattr(quantising, "_milliseconds", lambda *_: dict(zip(("fp32", "int8"), ms, strict=True)))
    config = resolve_config(options_of(run, "auto"))
    settled = quantising.quantise_where_asked(config, prepare_data(config))
    graphs = {plan.backbone.int8_graph for plan in settled.members}
    assert (graphs == {None}) == (taken == "fp32")
    again = resolve_config(options_of(run, "auto"))
    assert {plan.backbone.int8_graph for plan in again.members} == graphs
    assert again.recipe.backbone.int8_graph in graphs


@pytest.mark.parametrize(
    ("deployment", "ms", "taken"),
    [
        ("vnni", (3.0, 2.9), "int8"),
        ("vnni", (3.0, 3.1), "fp32"),
        ("openvino", (3.0, 1.0), "fp32"),
        ("gpu", (3.0, 1.0), "fp32"),
    ],
)
def test_auto_takes_the_stated_deployment_into_account(
    in_int8: tuple[Run, Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deployment: str,
    ms: tuple[float, float],
    taken: str,
) -> None:
    run = in_int8[0].copy(tmp_path)
    monkeypatch.setattr(quantising, "_milliseconds", lambda *_: dict(zip(("fp32", "int8"), ms, strict=True)))
    stated = options_of(run, "auto", f"backbone.deployment={deployment}")
    config = resolve_config(stated)
    settled = quantising.quantise_where_asked(config, prepare_data(config))
    [entry] = read_json(run.folder / FILE)["backbones"].values()
    assert entry["taken"] == taken
    assert f"deployment: {deployment}" in entry["sentence"]
    graphs = {plan.backbone.int8_graph for plan in settled.members}
    assert graphs == {entry["graph"]}
    assert {plan.backbone.int8_graph for plan in resolve_config(stated).members} == graphs


def test_a_deployment_that_decides_nothing_is_refused(tiny: Run) -> None:
    outcome = tiny.command("train-all", "-o", "backbone.deployment=vnni", "--dry-run")
    assert outcome.code == 2
    assert "deployment: vnni decides nothing with precision: fp32" in outcome.said


def test_precision_alone_changes_no_key() -> None:
    plain, asked = BackboneSettings(), BackboneSettings(precision="int8")
    assert asked.identity() == plain.identity()
    assert "precision" not in plain.identity()
    quantised = asked.model_copy(update={"int8_graph": "abc"})
    assert quantised.identity() != plain.identity()
    assert quantised.in_float32 == plain


def test_where_nothing_is_labelled_all_training_images_may_be_drawn(in_int8: tuple[Run, Outcome]) -> None:
    options = replace(options_of(in_int8[0]), unlabelled=True)
    data = prepare_data(resolve_config(options))
    assert data.regime == "unlabelled"
    everything = quantising.calibration_rows(data, 1_000)
    assert {row.sha256 for row in everything} == {row.sha256 for row in data.train}
    assert quantising.calibration_rows(data, 5) == everything[:5], "fewer images are the first of more"


def test_a_precision_that_is_none_is_refused(tiny: Run) -> None:
    with pytest.raises(OutnumberedError, match="int8"):
        resolve_config(options_of(tiny, "int9"))
