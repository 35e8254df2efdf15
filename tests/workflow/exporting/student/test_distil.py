"""``export --distil``: a student that is trained on the run's folds, gated, timed, and called what it is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import torch

from contracts.errors import UsageError
from contracts.files import read_arrays, read_json, write_json
from export.onnx_file import add_metadata
from export.scoring import load_model
from export.timing import milliseconds_an_image
from tests.conftest import Outcome, Run, run_command
from workflow.exporting.student import candidates as student_backbone
from workflow.exporting.student.candidates import strongest_within, untrained_graphs
from workflow.exporting.student.plan import LABEL_WEIGHT, StudentPlan, mixed_targets, soft_targets
from workflow.run import state
from workflow.settings.config import RunOptions
from workflow.training import train as train_all

NAME = "small_cnn_16@16"
STUDENT = ("--distil", "--student", NAME, "--epochs", "1")
METRICS = ["auroc", "average_precision", "balanced_accuracy", "brier", "ece"]


def results(run: Run) -> dict[str, int]:
    """Cached result → when it was written."""
    found = sorted((run.folder / "student" / NAME / "members" / "student").glob("*.npz"))
    return {path.name: path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def told(fitted: tuple[Run, Outcome], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A run whose student was interrupted, refused, and at last exported; what was said each time."""
    run = fitted[0].copy(tmp_path_factory.mktemp("student"))
    before = {
        path: path.read_bytes() for path in [run.folder / "model.onnx", *(run.folder / "deploy").rglob("*.*")]
    }
    one_unit = train_all.run_fit
    calls = []

    def interrupted(*given, **named):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return one_unit(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_all, "run_fit", interrupted)
        stopped = run.command("export", *STUDENT)
    half = results(run)
    refused = run.command("export", *STUDENT, "--most-lost", "0")
    whole = results(run)
    none_yet = not list(run.folder.glob("*student.onnx*"))
    kept = run.command("export", *STUDENT, "--most-lost", "1", "--json")
    return {
        "run": run,
        "before": before,
        "stopped": stopped,
        "half": half,
        "refused": refused,
        "whole": whole,
        "none_yet": none_yet,
        "kept": kept,
    }


def test_interrupted_training_goes_on_where_it_was(told):
    assert told["stopped"].code == 130
    assert len(told["half"]) == 2
    assert set(told["whole"]) == {"fold-0.npz", "fold-1.npz", "fold-2.npz", "final.npz"}
    assert {name: told["whole"][name] for name in told["half"]} == told["half"]


def test_too_much_lost_is_refused_with_the_figures(told):
    assert told["refused"].code == 5
    assert f"the student {NAME} is not kept: its AUROC on test images is 0." in told["refused"].said
    assert "--most-lost is 0. Its training is kept" in told["refused"].said
    assert told["none_yet"]


def test_another_limit_trains_nothing(told):
    assert told["kept"].code == 0, told["kept"].err
    assert "Nothing to train: all 4 fits" in told["kept"].said
    assert results(told["run"]) == told["whole"]


def test_the_document_and_the_file_say_what_was_lost_and_gained(told):
    run, document = told["run"], told["kept"].json
    path = run.folder / "student.onnx"
    assert document["model"] == str(path)
    assert json.loads((run.folder / "export.student.json").read_text()) == document
    assert list(document["figures"]) == METRICS
    assert set(document["costs"]) == {"ensemble", "student"}
    assert document["costs"]["student"]["ms"] < document["costs"]["ensemble"]["ms"]
    of_ensemble = read_json(run.folder / "metrics.json")["document"]["rows"][-1]
    for metric, figures in document["figures"].items():
        assert figures["ensemble"] == pytest.approx(of_ensemble[metric])
        estimate, low, high = figures["difference"]
        assert estimate == pytest.approx(figures["student"] - figures["ensemble"])
        assert low <= estimate <= high
    assert document["gate"] == {
        "metric": "auroc",
        "lost": pytest.approx(-document["figures"]["auroc"]["difference"][0]),
        "most_lost": 1.0,
    }
    inside = load_model(path).document
    for key in ("student", "student_of", "figures", "gate", "costs"):
        assert inside[key] == document[key]
    assert inside["student"] == {
        "name": NAME,
        "backbone": "small_cnn_16",
        "image_size": 16,
        "epochs": 1,
        "label_weight": LABEL_WEIGHT,
    }
    assert inside["decode"]["size"] == 16
    assert inside["members"] == ["student"]
    # Nothing of the ensemble's backbone is in it.
    assert path.stat().st_size < 400_000
    assert "Student against ensemble on 20 test images" in told["kept"].said


def test_the_ensembles_own_file_and_folder_stay(told):
    assert all(path.read_bytes() == content for path, content in told["before"].items())
    config = read_json(told["run"].folder / "deploy-student" / "config.json")
    assert config["onnx_file"] == "student.onnx"
    card = (told["run"].folder / "deploy-student" / "README.md").read_text()
    assert f"It is a student, `{NAME}`" in card
    assert "| AUROC | " in card.split("It is a student")[1]


def test_score_inspect_and_parity_take_it_for_what_it_is(told, tmp_path):
    run = told["run"]
    path = run.folder / "student.onnx"
    scored = run_command("score", path, run.dataset / "test", "--output", tmp_path / "s", "--runtime", "auto")
    assert scored.code == 0, scored.err
    rows = pads.dataset(tmp_path / "s").to_table().to_pylist()
    final, _ = read_arrays(run.folder / "student" / NAME / "members" / "student" / "final.npz")
    of_path = {
        str(run.dataset / p): s
        for p, s in zip(
            pq.read_table(run.folder / "test.parquet")["path"].to_pylist(),
            final["scores"][:, 0],
            strict=True,
        )
    }
    assert [row["score_student"] for row in rows] == pytest.approx(
        [of_path[row["path"]] for row in rows], abs=1e-3
    )
    shown = run_command("inspect", path, "--json")
    assert [part["name"] for part in shown.json["parts"]] == ["input", "student", "ensemble"]
    assert f"A student, {NAME}, of the run's ensemble: auroc on test images" in shown.said
    held = {
        row["file"]: row
        for row in run.command("parity", "--json").json["rows"]
        if row["runtime"] == "onnxruntime"
    }
    assert set(held) == {"model.onnx", "student.onnx"}
    assert held["student.onnx"]["max_probability_difference"] <= 1e-4
    assert set(held["student.onnx"]["rank_correlation"]) == {"student"}


def test_a_student_of_an_earlier_ensemble_is_called_stale(told, tmp_path):
    run = told["run"].copy(tmp_path)
    assert "is stale" not in run.command("ensemble").said
    options = RunOptions(str(run.dataset), recipe=str(run.recipe), runs=run.runs)
    refitted = replace(options, overrides=("threshold=max_f1",))
    earlier = state.Run.open(refitted).key
    assert earlier != state.Run.open(options).require_ensemble().key
    document = run.folder / "export.student.json"
    write_json(document, read_json(document) | {"student_of": earlier})
    add_metadata(run.folder / "student.onnx", {"student_of": earlier})
    said = run.command("ensemble").said
    assert "student.onnx is stale: distilled from an earlier ensemble" in said
    assert f"--distil --student {NAME}" in said.split("Command:")[1]
    rows = run.command("parity", "--json").json["rows"]
    skipped = {row["file"] for row in rows if "from an earlier ensemble" in row.get("skipped", "")}
    assert skipped == {"student.onnx"}


def test_targets_are_half_label_half_what_others_folds_say(told):
    run = told["run"]
    options = RunOptions(str(run.dataset), recipe=str(run.recipe), runs=run.runs)
    finished = state.Run.open(options).require_ensemble()
    targets = soft_targets(finished)
    labels = finished.oof.labels
    assert targets.shape == (57, 2)
    np.testing.assert_allclose(targets.sum(axis=1), 1.0, atol=1e-6)
    assert (targets[np.arange(57), labels] > LABEL_WEIGHT).all()
    assert len(np.unique(targets[:, 1])) > 20


def test_mixture():
    p = np.array([[0.7, 0.3], [0.2, 0.8]])
    np.testing.assert_allclose(mixed_targets(np.array([0, 0]), p), [[0.85, 0.15], [0.6, 0.4]], atol=1e-6)


# ---- which student


@pytest.mark.parametrize(
    "text", ["small_cnn", "small_cnn@", "@32", "small_cnn@8", "small_cnn@x", "small_cnn@1e2"]
)
def test_what_is_no_student(text):
    with pytest.raises(UsageError, match="write NAME@SIZE with 16 to 600 pixels"):
        StudentPlan.parse(text)


def test_names_of_students():
    plan = StudentPlan.parse("torchvision:resnet18@64", 3)
    assert (plan.backbone, plan.image_size, plan.epochs) == ("torchvision:resnet18", 64, 3)
    assert StudentPlan.from_json(plan.to_json()) == plan
    assert plan.settings.network.name == "torchvision:resnet18"


def test_the_strongest_within_the_budget():
    taken = {"weak": 1.0, "better": 2.5, "best": 4.0}
    assert strongest_within(taken, 3.0) == "better"
    assert strongest_within(taken, 4.0) == "best"
    assert strongest_within(taken, 0.5) is None


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two candidates at 1 and 4 ms, an ensemble at 8."""
    taken = {"ensemble": 8.0, "small_cnn_16@16": 1.0, "small_cnn_16@32": 4.0}
    monkeypatch.setattr(student_backbone, "CANDIDATES", ("small_cnn_16@16", "small_cnn_16@32"))
    monkeypatch.setattr(student_backbone, "untrained_graphs", lambda plans, n_classes: dict.fromkeys(plans))
    monkeypatch.setattr(student_backbone, "load_model", lambda path: path)
    monkeypatch.setattr(student_backbone, "as_timed", lambda model: model)
    monkeypatch.setattr(
        student_backbone, "milliseconds_an_image", lambda models: {name: taken[name] for name in models}
    )


@pytest.mark.usefixtures("timed")
def test_a_quarter_of_the_ensemble_is_the_default_budget(tmp_path):
    plan, facts = student_backbone.choose_student(2, 5, None, tmp_path / "model.onnx")
    assert plan == StudentPlan("small_cnn_16", 16, 5)
    assert facts == {
        "budget_ms": 2.0,
        "ensemble_ms": 8.0,
        "candidates": {"small_cnn_16@16": 1.0, "small_cnn_16@32": 4.0},
    }
    assert student_backbone.choose_student(2, 5, 4.0, None)[0].image_size == 32


@pytest.mark.usefixtures("timed")
def test_a_budget_that_nothing_keeps_to_names_the_fastest():
    with pytest.raises(UsageError, match="the fastest, small_cnn_16@16, takes 1 ms per image"):
        student_backbone.choose_student(2, 5, 0.5, None)
    with pytest.raises(UsageError, match="no ONNX file, so no budget follows"):
        student_backbone.choose_student(2, 5, None, None)


def test_one_graph_of_a_network_is_that_of_all_its_sizes():
    plans = {f"{size}": StudentPlan("small_cnn_16", size) for size in (32, 64)}
    for plan, (run, size) in zip(plans.values(), untrained_graphs(plans, 2).values(), strict=True):
        assert size == plan.image_size
        pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
        network = student_backbone._untrained(plan, 2)
        with torch.inference_mode():
            expected = network.logits(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
        np.testing.assert_allclose(run(pixels)["logits"], expected.numpy(), atol=1e-4)


def test_graphs_are_timed_in_turn_and_at_their_own_size():
    seen = []
    graphs = {
        "a": (lambda images: seen.append(("a", images.shape)), 16),
        "b": (lambda i: seen.append(("b", i.shape)), 8),
    }
    assert set(milliseconds_an_image(graphs)) == {"a", "b"}
    assert seen == [("a", (16, 16, 16, 3)), ("b", (16, 8, 8, 3))] * 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--student", NAME), "--student: these are options of a student. Add --distil."),
        (("--jobs", "2"), "--jobs: these are options of a student"),
        (
            ("--distil", "--precision", "int8"),
            "--distil and --precision int8: a student is exported in fp32 only",
        ),
        (("--distil", "--student", NAME, "--budget", "1"), "Give only one of them"),
        (("--distil", "--budget", "0"), "--budget 0: it must be above 0, in milliseconds per image"),
        (("--distil", "--student", "small_cn@32"), "backbone 'small_cn': timm has no such model"),
        (("--distil", "--student", "vit_tiny_patch16_224@64"), "the network takes no images of 64 px"),
        (("--distil", "--output", "."), "that is a folder. Name the file, such as student.onnx"),
    ],
)
def test_what_cannot_be_asked_for(fitted: tuple[Run, Outcome], arguments, said):
    outcome = fitted[0].command("export", *arguments)
    assert outcome.code == 2
    assert said in outcome.said
