"""The main job on a tiny data set: train, fuse, export, score; again; changed; with a member that fails."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from PIL import Image

from contracts.errors import MemberCollapsedError
from contracts.files import read_arrays, read_json
from tests.conftest import Outcome, Run, run_command
from workflow.run.state import Run as OpenedRun
from workflow.settings.config import RunOptions
from workflow.settings.registry import MEMBERS as MEMBERS_BY_TYPE
from workflow.training import train as train_all

METRICS = [
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "recall",
    "brier",
    "f1",
    "g_mean",
    "ece",
    "hter",
]
MEMBERS = ["patchcore", "deep_svdd", "cnn", "cnn_weighted"]


def scores_of(run: Run, fit: str) -> np.ndarray:
    return read_arrays(run.folder / "members" / fit)[0]["scores"]


# ---- the documents


def test_json_of_the_ensemble_has_its_documented_shape(fitted: tuple[Run, Outcome]):
    run, outcome = fitted
    document = outcome.json
    keys = ["dataset", "recipe", "regime", "measured", "model", "threshold", "prior", "minority", "rows"]
    assert list(document) == [*keys, "triage", "in_use", "stability"]
    assert (document["regime"], document["measured"]) == ("labelled", "test_set")
    assert (document["dataset"], document["recipe"]) == ("blotches", "tiny")
    assert document["model"] == str(run.folder / "model.onnx")
    assert 0 < document["threshold"] < 1
    assert document["prior"] == pytest.approx(8 / 38)  # of the training images, as nothing is stated
    kinds = {row["name"]: row["kind"] for row in document["rows"]}
    assert kinds == {
        "calibrated_baseline": "baseline",
        "patchcore": "oneclass",
        "deep_svdd": "oneclass",
        "cnn": "supervised",
        "cnn_weighted": "supervised",
        "best_single": "simple_fusion",
        "plain_mean": "simple_fusion",
        "greedy": "simple_fusion",
        "ensemble": "ensemble",
    }
    for row in document["rows"]:
        assert list(row) == ["name", "kind", *METRICS, "intervals", "minus_baseline"]
        assert list(row["intervals"]) == list(row["minus_baseline"]) == METRICS
        for metric in METRICS:
            low, high = row["intervals"][metric]
            assert 0 <= low <= high <= 1
            estimate, below, above = row["minus_baseline"][metric]
            assert below <= above
            assert estimate == pytest.approx(row[metric] - document["rows"][0][metric])
        assert row["hter"] == pytest.approx(1 - row["balanced_accuracy"])
    changes = document["stability"]["changes"]
    assert [each["name"] for each in changes] == ["jpeg_95", "noise", "shift", "brighter"]
    assert all(0 <= each["median"] <= each["largest"] <= 1 for each in changes)
    assert document["stability"]["images"] == 20
    assert json.loads((run.folder / "metrics.json").read_text())["document"] == document


def test_the_planted_difference_is_found(fitted: tuple[Run, Outcome]):
    row = fitted[1].json["rows"][-1]
    assert row["name"] == "ensemble"
    assert row["auroc"] >= 0.9


def test_people_read_tables_on_standard_error(fitted: tuple[Run, Outcome]):
    assert "calibrated_baseline" in fitted[1].err
    assert "Parity on 20 test images" in fitted[1].said


def test_tables_of_the_run(fitted: tuple[Run, Outcome]):
    run, outcome = fitted
    oof, test_table = (
        pq.read_table(run.folder / name).to_pydict() for name in ("oof.parquet", "test.parquet")
    )
    assert len(oof["path"]) == 57
    assert len(test_table["path"]) == 20
    assert set(oof["fold"]) == {0, 1, 2}
    assert set(test_table["fold"]) == {-1}
    for table in (oof, test_table):
        assert [name for name in table if name.startswith("score_")] == [f"score_{name}" for name in MEMBERS]
        assert np.isfinite([table[f"score_{name}"] for name in MEMBERS]).all()
    p_minority = np.array(test_table["probability"])
    assert ((p_minority >= 0) & (p_minority <= 1)).all()
    called_odd = p_minority >= outcome.json["threshold"]
    assert test_table["decision"] == np.where(called_odd, "odd", "fine").tolist()
    metrics = pq.read_table(run.folder / "metrics.parquet").to_pylist()
    auroc = {row["name"]: row["value"] for row in metrics if row["metric"] == "auroc"}
    assert auroc == {row["name"]: row["auroc"] for row in outcome.json["rows"]}


def test_the_exported_file_repeats_the_run(fitted: tuple[Run, Outcome], tmp_path):
    run, _ = fitted
    outcome = run_command(
        "score", run.folder / "model.onnx", run.dataset / "test", "--output", tmp_path / "scores", "--json"
    )
    assert outcome.code == 0, outcome.err
    assert list(outcome.json) == [
        "images",
        "scored",
        "failed",
        "seconds",
        "images_per_second",
        "output",
        "runtime",
        "left_out",
        "known",
        "decisions",
        "triage",
        "failures",
        "notes",
        "review",
        "heat_maps",
        "csv",
        "watch",
    ]
    assert (outcome.json["images"], outcome.json["scored"], outcome.json["failed"]) == (20, 20, 0)
    scored = {row["path"]: row for row in pads.dataset(tmp_path / "scores").to_table().to_pylist()}
    for row in pq.read_table(run.folder / "test.parquet").to_pylist():
        again = scored[str(run.dataset / row["path"])]
        assert again["probability"] == pytest.approx(row["probability"], abs=1e-4)
        assert again["decision"] == row["decision"]


def test_score_says_which_images_the_model_was_trained_on(fitted: tuple[Run, Outcome], tmp_path):
    run, _ = fitted
    model = run.folder / "model.onnx"
    test = run_command("score", model, run.dataset / "test", "--output", tmp_path / "test", "--json")
    assert test.json["known"] == 0
    assert "used to train" not in test.said
    for _ in range(2):  # an earlier run's rows are counted as well
        every = run_command("score", model, run.dataset, "--output", tmp_path / "all", "--json")
        assert every.json["known"] == 57
        assert every.said.count("57 of these 77 images were used to train this model") == 1
    facts = model.read_bytes()
    assert b"outnumbered_training_images" in facts
    assert b"train/fine" not in facts


# ---- again


def test_trained_run_is_a_no_op_that_says_so(trained: Run):
    before = trained.fit_bytes()
    outcome = trained.command("train-all", "--json")
    assert outcome.code == 0
    assert outcome.json["fits_run"] == 0
    assert "Nothing to do: all 16 fits" in outcome.said
    assert trained.fit_bytes() == before


def test_finished_ensemble_is_a_no_op_that_says_so(fitted: tuple[Run, Outcome]):
    run, first = fitted
    before = (run.folder / "model.onnx").stat().st_mtime_ns
    outcome = run.command("ensemble", "--json")
    assert "Nothing to do" in outcome.said
    assert outcome.json == first.json
    assert (run.folder / "model.onnx").stat().st_mtime_ns == before


def test_dry_run_says_what_is_left_and_writes_no_run(trained: Run, tmp_path):
    outcome = trained.command("train-all", "--dry-run", "--json")
    assert outcome.code == 0
    assert (outcome.json["fits"], outcome.json["fits_pending"]) == (16, 0)
    assert outcome.json["train"] == {"fine": 45, "odd": 12}
    assert outcome.json["minority_per_fold"] == [4, 4, 4]
    other = Run(trained.dataset, trained.recipe, tmp_path / "runs")
    fresh = other.command("train-all", "--dry-run", "--json")
    assert fresh.json["fits_pending"] == 16
    assert fresh.json["estimated_bytes"] > 0
    assert not other.folder.exists()


# ---- changed


def test_changed_setting_retrains_that_member_alone(trained: Run, tmp_path):
    run = trained.copy(tmp_path)
    before = run.fit_bytes()
    outcome = run.command("train-all", "-o", "members.patchcore.bank_size=50", "--json")
    assert outcome.json["fits_run"] == 4
    after = run.fit_bytes()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {f"patchcore/{fit}.npz" for fit in ("fold-0", "fold-1", "fold-2", "final")}
    # The run now answers for the new setting only.
    stale = run.command("ensemble")
    assert stale.code == 5
    assert "trained with members.patchcore.bank_size=50, but now members.patchcore.bank_size=60" in stale.said


def test_a_members_revision_makes_its_own_results_stale(trained: Run, monkeypatch):
    options = RunOptions(str(trained.dataset), recipe=str(trained.recipe), runs=trained.runs)
    before = {fit.label: fit.key for fit in OpenedRun.open(options).every_fit}
    monkeypatch.setitem(MEMBERS_BY_TYPE, "cnn", replace(MEMBERS_BY_TYPE["cnn"], revision=99))
    stale = [fit for fit in OpenedRun.open(options).every_fit if fit.key != before[fit.label]]
    assert {fit.member.name for fit in stale} == {"cnn"}
    assert len(stale) == 4


@pytest.mark.parametrize("torn", [b"", b"PK\x03\x04", None])
def test_torn_cached_result_is_repeated_with_the_same_bytes(trained: Run, tmp_path, torn):
    run = trained.copy(tmp_path)
    result = run.folder / "members" / "cnn" / "fold-1.npz"
    whole = scores_of(run, "cnn/fold-1.npz")
    result.write_bytes(result.read_bytes()[:200] if torn is None else torn)
    outcome = run.command("train-all", "--json")
    assert outcome.json["fits_run"] == 1
    assert scores_of(run, "cnn/fold-1.npz").tobytes() == whole.tobytes()


def test_what_another_command_finished_meanwhile_is_not_done_again(trained: Run, tmp_path, monkeypatch):
    run = trained.copy(tmp_path)
    result = run.folder / "members" / "cnn" / "fold-1.npz"
    content = result.read_bytes()
    result.unlink()
    original = train_all.run_fits

    def after_another_has(config, data, pending):
        assert [fit.path for fit in pending] == [result]
        result.write_bytes(content)
        original(config, data, pending)

    def never(*_arguments):
        raise AssertionError("a finished fit is done again")

    monkeypatch.setattr(train_all, "run_fits", after_another_has)
    monkeypatch.setattr(train_all, "run_fit", never)
    outcome = run.command("train-all", "--jobs", "1")
    assert outcome.code == 0, outcome.err
    assert result.read_bytes() == content


# ---- what the folds held out


def test_held_out_pixels_change_no_model(trained: Run, tmp_path):
    run = trained.copy(tmp_path, with_dataset=True)
    file = run.dataset / "test" / "odd" / "003.png"
    Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    before = run.fit_bytes()
    outcome = run.command("train-all", "--json")
    assert outcome.json["fits_run"] == len(MEMBERS)
    after = run.fit_bytes()
    assert {name for name in after if after[name] != before[name]} == {
        f"{name}/final.npz" for name in MEMBERS
    }
    for name in MEMBERS:
        was, now = (read_arrays(r.folder / "members" / name / "final.npz") for r in (trained, run))
        states = [
            {key: value for key, value in arrays.items() if key != "scores"} for arrays, _ in (was, now)
        ]
        assert states[0].keys() == states[1].keys()
        assert all(states[0][key].tobytes() == states[1][key].tobytes() for key in states[0])
        assert was[1]["state_meta"] == now[1]["state_meta"]
        differs = (was[0]["scores"] != now[0]["scores"]).any(axis=1)
        assert differs.sum() == 1


@pytest.mark.parametrize("member", ["cnn", "patchcore", "deep_svdd"])
def test_a_row_does_not_teach_the_model_that_scores_its_fold(trained: Run, tmp_path, member):
    run = trained.copy(tmp_path, with_dataset=True)
    folds = json.loads((run.folder / "folds.json").read_text())
    path = next(path for path, fold in folds.items() if fold == 1 and "/fine/" in path)
    file = run.dataset / path
    Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    outcome = run.command("train", member, "--json")
    assert outcome.json["fits_run"] == 4
    assert json.loads((run.folder / "folds.json").read_text()) == folds
    mine = [other for other, fold in folds.items() if fold == 1]
    was, now = scores_of(trained, f"{member}/fold-1.npz"), scores_of(run, f"{member}/fold-1.npz")
    changed = [other for other, a, b in zip(mine, was, now, strict=True) if (a != b).any()]
    assert changed == [path]
    # It does teach the others, so the comparison above means something.
    assert (scores_of(trained, f"{member}/fold-0.npz") != scores_of(run, f"{member}/fold-0.npz")).any()


# ---- a member that fails


def test_collapsed_member_is_left_out_with_a_sentence_and_the_run_goes_on(
    trained: Run, tmp_path, monkeypatch
):
    from oneclass.deep.deep_svdd import DeepSVDD

    run = trained.copy(tmp_path)

    def collapse(self, rows, context):
        raise MemberCollapsedError("deep_svdd: collapsed, 1 distinct scores among 38 images.")

    monkeypatch.setattr(DeepSVDD, "fit", collapse)
    # The export has tests of its own; what counts here is what it is given.
    monkeypatch.setattr(
        "workflow.ensembling.model_file.export_model", lambda *given, **options: {"sha256": "none"}
    )
    shutil.rmtree(run.folder / "members" / "deep_svdd")
    outcome = run.command("train-all", "--json")
    assert outcome.code == 0
    assert outcome.json["left_out"] == {
        "deep_svdd": "deep_svdd: collapsed, 1 distinct scores among 38 images."
    }
    assert "left out" in outcome.said
    fused = run.command("ensemble", "--json")
    assert fused.code == 0
    assert "deep_svdd is left out: deep_svdd, fold 1: deep_svdd: collapsed" in fused.said
    assert "deep_svdd" not in [row["name"] for row in fused.json["rows"]]
    assert run.command("train-all", "--json").json["fits_run"] == 0


def test_baseline_cannot_be_left_out(trained: Run, tmp_path, monkeypatch):
    from supervised.head import HeadCnn

    run = trained.copy(tmp_path)

    def collapse(self, rows, context):
        raise MemberCollapsedError("cnn: collapsed.")

    monkeypatch.setattr(HeadCnn, "fit", collapse)
    (run.folder / "members" / "cnn" / "fold-0.npz").unlink()
    assert run.command("train", "cnn").code == 0
    outcome = run.command("ensemble")
    assert outcome.code == 5
    assert "the calibrated baseline cannot be left out: cnn, fold 1: cnn: collapsed." in outcome.said


# ---- commands out of order, and of other options


def test_ensemble_before_training_names_the_command(tiny: Run, tmp_path):
    run = Run(tiny.dataset, tiny.recipe, tmp_path / "runs")
    outcome = run.command("ensemble")
    assert outcome.code == 5
    assert f"nothing trained there yet. First run: python cli.py train-all {run.dataset}" in outcome.said
    assert f"--recipe {run.recipe} --runs {run.runs}" in outcome.said
    assert run.command("export").code == 5


def test_ensemble_without_one_member_names_the_command_that_trains_it(trained: Run, tmp_path):
    run = trained.copy(tmp_path)
    (run.folder / "members" / "cnn_weighted" / "fold-2.npz").unlink()
    outcome = run.command("ensemble")
    assert outcome.code == 5
    assert f"cnn_weighted. Run: python cli.py train {run.dataset} cnn_weighted --recipe" in outcome.said
    shutil.rmtree(run.folder / "members" / "cnn")
    outcome = run.command("ensemble")
    assert f"cnn, cnn_weighted. Run: python cli.py train-all {run.dataset} --recipe" in outcome.said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "folds=4"], "trained with folds=3, but now folds=4 is asked for"),
        (
            ["-o", "members.cnn.l2=7"],
            "trained with members.cnn.l2=its default, but now members.cnn.l2=7 is asked",
        ),
        (["-o", "imbalance=1:9"], 'trained with imbalance=its default, but now imbalance="1:9" is asked'),
        (["--seed", "3"], "trained with seed=0, but now seed=3 is asked for"),
        (["--minority", "fine"], 'trained with minority="odd", but now minority="fine" is asked for'),
    ],
)
def test_ensemble_with_other_options_names_the_difference(trained: Run, arguments, said):
    outcome = trained.command("ensemble", *arguments)
    assert outcome.code == 5
    assert said in outcome.said
    assert "python cli.py train-all" in outcome.said


def test_what_comes_after_training_needs_no_training(fitted: tuple[Run, Outcome], tmp_path):
    run, first = fitted[0].copy(tmp_path), fitted[1].json
    outcome = run.command("ensemble", "-o", "threshold=max_f1", "-o", "deployment_prior=0.3", "--json")
    assert outcome.code == 0, outcome.said
    assert outcome.json["prior"] == 0.3
    assert outcome.json["threshold"] != first["threshold"]
    stale = run.command("export")
    assert stale.code == 5
    assert "its ensemble was fitted on other members or with other settings" in stale.said


def test_equal_names_are_not_equal_data(trained: Run, tmp_path):
    run = trained.copy(tmp_path, with_dataset=True)
    file = run.dataset / "test" / "odd" / "003.png"
    Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    outcome = run.command("ensemble")
    assert outcome.code == 5
    assert (
        f"trained on the images of {trained.dataset}, but now those of {run.dataset} are asked for"
        in outcome.said
    )
    again = run.command("train-all", "--json")
    assert again.json["fits_run"] == len(MEMBERS)  # the final fits, which score the test set


def test_export_before_the_ensemble_names_the_command(trained: Run):
    outcome = trained.command("export")
    assert outcome.code == 5
    assert f"no ensemble fitted yet. First run: python cli.py ensemble {trained.dataset}" in outcome.said


@pytest.mark.parametrize("name", ["ensemble.json", "metrics.json"])
def test_an_ensemble_of_which_a_file_was_deleted_is_fitted_again(fitted, tmp_path, name):
    run = fitted[0].copy(tmp_path)
    whole = {each: read_json(run.folder / each) for each in ("ensemble.json", "metrics.json")}
    (run.folder / name).unlink()
    outcome = run.command("export")
    assert outcome.code == 5
    assert f"no ensemble fitted yet. First run: python cli.py ensemble {run.dataset}" in outcome.said
    assert run.command("ensemble").code == 0
    assert read_json(run.folder / "ensemble.json") == whole["ensemble.json"]
    assert read_json(run.folder / "metrics.json")["key"] == whole["metrics.json"]["key"]


@pytest.mark.parametrize("name", ["config.json", "manifest.parquet", "folds.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_run_folder_with_a_missing_or_torn_file_asks_for_training(trained: Run, tmp_path, name, content):
    folder = tmp_path / "runs" / trained.dataset.name
    shutil.copytree(trained.folder, folder / "tiny", ignore=shutil.ignore_patterns("members"))
    file = folder / "tiny" / name
    file.unlink() if content is None else file.write_bytes(content)
    outcome = Run(trained.dataset, trained.recipe, tmp_path / "runs").command("ensemble")
    assert outcome.code == 5
    assert "python cli.py train-all" in outcome.said


# ---- features


def test_members_that_read_pixels_alone_cost_no_pass_through_the_backbone(tiny: Run, tmp_path):
    recipe = tmp_path / "pixels.yaml"
    recipe.write_text(
        "name: pixels\nfolds: 2\nmembers:\n  cnn: {tune: full, network: {name: small_cnn_16}, "
        "image_size: 16, epochs: 1}\n"
    )
    run = Run(tiny.dataset, recipe, tmp_path / "runs")
    assert "0 s of it backbone features" in run.command("train-all", "--dry-run").said
    assert run.command("train-all").code == 0
    assert not list((run.runs / "features").rglob("*.npy"))
