"""Runs as MLflow shows them; one database for most tests, as its tables take seconds to make."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from contracts.files import read_arrays, read_json, write_arrays, write_json
from tests.conftest import Outcome, Run, run_command
from workflow.tracking import mlflow_store, tracker
from workflow.tracking import place as tracking_place
from workflow.tracking.place import TrackingPlace
from workflow.tracking.records import flat

pytest.importorskip("mlflow", reason="the extra 'tracking' is not installed")

MEMBERS = {"patchcore", "deep_svdd", "cnn", "cnn_weighted"}
ROOT = Path(__file__).parents[3]


def client_of(run: Run):
    from mlflow import MlflowClient

    return MlflowClient(TrackingPlace(run.runs).uri())


def runs_of(run: Run):
    """Name → run, as MLflow's own client finds them."""
    client = client_of(run)
    experiment = client.get_experiment_by_name(run.dataset.name)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    by_name = {one.info.run_name: one for one in found}
    assert len(by_name) == len(found)
    return by_name


def artifacts_of(run: Run, name: str) -> Path:
    """Where MLflow's server, started as ``ui`` says, looks for a run's files."""
    uri = runs_of(run)[name].info.artifact_uri
    assert uri.startswith("mlflow-artifacts:/")
    return run.runs / "tracking-artifacts" / uri.removeprefix("mlflow-artifacts:/")


def forget(run: Run, *names: str) -> None:
    """Take runs (all where none is named) out of the ledger, as if a kill had come before they were noted."""
    path = TrackingPlace(run.runs).ledger
    ids = {one.info.run_id for name, one in runs_of(run).items() if name in names or not names}
    write_json(path, {key: at for key, at in read_json(path).items() if at.split("/")[1] not in ids})


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def sql(run: Run, *statement: object) -> list[tuple]:
    with closing(sqlite3.connect(TrackingPlace(run.runs).database)) as connection, connection:
        return connection.execute(*statement).fetchall()


@pytest.fixture(scope="module")
def tracked(fitted: tuple[Run, Outcome], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A copy of ``fitted``, trained and fused without tracking, logged afterwards; not to be changed."""
    run = fitted[0].copy(tmp_path_factory.mktemp("tracked") / "with space")
    for command in ("train-all", "ensemble"):
        outcome = run.command(command, "--tracking")
        assert outcome.code == 0, outcome.err
        assert "Not tracked" not in outcome.said
        assert "logged in" in outcome.said
    return run


@pytest.fixture
def changeable(tracked: Run, tmp_path: Path) -> Run:
    """A copy of ``tracked``."""
    return tracked.copy(tmp_path)


@pytest.fixture
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens MLflow's database from now on is told that it is broken."""

    def fail(place):
        raise RuntimeError("opened")

    monkeypatch.setattr(mlflow_store, "open_client", fail)


# ---- what is logged


def test_members_and_ensemble_are_nested_in_the_run_of_recipe_and_seed(tracked: Run):
    runs = runs_of(tracked)
    assert set(runs) == {"tiny, seed 0", "ensemble", *MEMBERS}
    parent = runs.pop("tiny, seed 0")
    assert {one.data.tags["mlflow.parentRunId"] for one in runs.values()} == {parent.info.run_id}
    assert {one.info.status for one in runs.values()} == {"FINISHED"}
    assert parent.data.params["recipe.folds"] == "3"
    assert parent.data.params["recipe.backbone.name"] == "test_efficientnet"
    assert parent.data.params["dataset.minority"] == "odd"
    assert parent.data.params["seed"] == "0"
    assert parent.data.tags["command"].startswith("python cli.py train-all")
    assert names_in(artifacts_of(tracked, "tiny, seed 0")) == {"config.json"}


def test_settings_of_a_member_are_parameters(tracked: Run):
    params = runs_of(tracked)["deep_svdd"].data.params
    assert params["type"] == "deep_svdd"
    assert params["kind"] == "oneclass"
    assert params["settings.hidden"] == "8"
    assert params["backbone.name"] == "test_efficientnet"
    assert params["manifest_digest"] == read_json(tracked.folder / "config.json")["digests"]["manifest"]


def test_metrics_of_folds_are_those_of_the_out_of_fold_table(tracked: Run):
    run, client = runs_of(tracked)["cnn"], client_of(tracked)
    oof = pq.read_table(tracked.folder / "oof.parquet").to_pandas()
    label = oof["label"] == "odd"
    for name, compute in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
        assert run.data.metrics[f"out_of_fold/{name}"] == pytest.approx(compute(label, oof["score_cnn"]))
        history = sorted(
            (m.step, m.value) for m in client.get_metric_history(run.info.run_id, f"fold/{name}")
        )
        for (step, value), fold in zip(history, (0, 1, 2), strict=True):
            mine = oof["fold"] == fold
            assert step == fold
            assert value == pytest.approx(compute(label[mine], oof["score_cnn"][mine]))
    seconds = [
        read_arrays(tracked.folder / "members" / "cnn" / f"{fit}.npz")[1]["seconds"]
        for fit in ("fold-0", "fold-1", "fold-2", "final")
    ]
    assert run.data.metrics["fold-0/seconds"] == seconds[0]
    assert run.data.metrics["seconds"] == pytest.approx(sum(seconds))


@pytest.mark.parametrize("fit", ["fold-2", "final"])
def test_curves_are_those_of_the_cached_results(tracked: Run, fit):
    meta = read_arrays(tracked.folder / "members" / "deep_svdd" / f"{fit}.npz")[1]
    run_id = runs_of(tracked)["deep_svdd"].info.run_id
    history = client_of(tracked).get_metric_history(run_id, f"{fit}/training_loss")
    assert sorted([m.step, m.value] for m in history) == meta["curves"]["training_loss"]
    assert [step for step, _ in meta["curves"]["training_loss"]] == [1, 2]


def test_ensemble_has_the_results_table_and_its_files(tracked: Run, fitted: tuple[Run, Outcome]):
    document, run = fitted[1].json, runs_of(tracked)["ensemble"]
    for row in document["rows"]:
        for metric in ("auroc", "average_precision", "hter", "ece"):
            assert run.data.metrics[f"{row['name']}/{metric}"] == pytest.approx(row[metric])
    assert run.data.metrics["threshold"] == pytest.approx(document["threshold"])
    assert run.data.params["threshold"] == "min_hter"
    folder = artifacts_of(tracked, "ensemble")
    assert folder.is_relative_to(tracked.runs / "tracking-artifacts")
    assert {"metrics.json", "ensemble.json", "export.json", "model.onnx"} <= names_in(folder)
    assert (folder / "model.onnx").read_bytes() == (tracked.folder / "model.onnx").read_bytes()


def test_comparison_is_logged_once_with_its_verdicts(changeable: Run):
    for expected in (1, 1):
        outcome = changeable.command("compare", "--members", "patchcore", "--tracking", "--json")
        assert outcome.code == 0, outcome.err
        runs = runs_of(changeable)
        assert sum(name.startswith("compare") for name in runs) == expected
    run = runs["compare average_precision"]
    row = next(row for row in outcome.json["rows"] if row["name"] == "patchcore")
    assert run.data.metrics["patchcore/average_precision"] == pytest.approx(row["average_precision"])
    assert run.data.metrics["patchcore/train_seconds"] == pytest.approx(row["train_seconds"])
    assert run.data.tags["verdict.patchcore"] == row["verdict"]
    assert "comparison.json" in names_in(artifacts_of(changeable, run.info.run_name))


# ---- again


def test_repeated_commands_log_nothing_and_open_no_store(tracked: Run, no_mlflow):
    before = sql(tracked, "SELECT count(*) FROM runs")
    for command in ("train-all", "ensemble"):
        outcome = tracked.command(command, "--tracking")
        assert outcome.code == 0
        assert "Not tracked" not in outcome.said
        assert "logged in" not in outcome.said
    assert sql(tracked, "SELECT count(*) FROM runs") == before


def test_repeated_commands_do_not_import_mlflow(tracked: Run):
    code = "import sys, cli; print(cli.main(sys.argv[1:]), 'mlflow' in sys.modules, 'torch' in sys.modules)"
    options = ("--recipe", tracked.recipe, "--runs", tracked.runs, "--tracking")
    done = subprocess.run(
        [sys.executable, "-c", code, "train-all", *map(str, (tracked.dataset, *options))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == ["0", "False", "False"]


def test_changed_member_is_one_more_run(changeable: Run):
    outcome = changeable.command("train-all", "-o", "members.cnn.max_iterations=5", "--tracking")
    assert "1 run logged" in outcome.said
    found = sql(
        changeable,
        "SELECT params.value FROM params JOIN runs ON runs.run_uuid = params.run_uuid "
        "WHERE runs.name = 'cnn' AND params.key = 'settings.max_iterations' ORDER BY 1",
    )
    assert found == [("20",), ("5",)]
    assert len(sql(changeable, "SELECT 1 FROM runs WHERE name = 'tiny, seed 0'")) == 1


def test_report_that_came_later_is_copied(changeable: Run, no_mlflow):
    (changeable.folder / "report.html").write_text("<p>first")
    assert "Not tracked" not in changeable.command("ensemble", "--tracking").said
    folder = artifacts_of(changeable, "ensemble")
    assert (folder / "report.html").read_text() == "<p>first"
    (changeable.folder / "report.html").write_text("<p>second one")
    changeable.command("ensemble", "--tracking")
    assert (folder / "report.html").read_text() == "<p>second one"


def test_half_logged_run_is_completed_not_repeated(changeable: Run):
    run_id = runs_of(changeable)["deep_svdd"].info.run_id
    before = sql(
        changeable, "SELECT key, value, step FROM metrics WHERE run_uuid = ? ORDER BY 1, 3", (run_id,)
    )
    forget(changeable, "deep_svdd")
    sql(changeable, "UPDATE runs SET status = 'RUNNING' WHERE run_uuid = ?", (run_id,))
    sql(changeable, "DELETE FROM metrics WHERE run_uuid = ? AND key LIKE 'fold%'", (run_id,))
    assert "1 run logged" in changeable.command("train-all", "--tracking").said
    run = runs_of(changeable)["deep_svdd"]
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    after = sql(
        changeable, "SELECT key, value, step FROM metrics WHERE run_uuid = ? ORDER BY 1, 3", (run_id,)
    )
    assert after == before


@pytest.mark.parametrize("is_noted", [True, False])
def test_run_deleted_in_mlflow_stays_deleted(changeable: Run, is_noted):
    run_id = runs_of(changeable)["cnn"].info.run_id
    if not is_noted:
        forget(changeable, "cnn")
    client_of(changeable).delete_run(run_id)
    assert changeable.command("train-all", "--tracking").code == 0
    assert "cnn" not in runs_of(changeable)
    assert len(sql(changeable, "SELECT 1 FROM runs WHERE name = 'cnn'")) == 1


def test_without_its_ledger_nothing_is_logged_twice(changeable: Run):
    place = TrackingPlace(changeable.runs)
    ledger = read_json(place.ledger)
    before = sql(changeable, "SELECT count(*) FROM runs"), sql(changeable, "SELECT count(*) FROM metrics")
    place.ledger.unlink()
    for command in ("train-all", "ensemble"):
        assert "Not tracked" not in changeable.command(command, "--tracking").said
    assert read_json(place.ledger) == ledger
    assert before == (
        sql(changeable, "SELECT count(*) FROM runs"),
        sql(changeable, "SELECT count(*) FROM metrics"),
    )


def test_after_its_database_is_moved_away_all_is_logged_into_a_new_one(changeable: Run):
    place = TrackingPlace(changeable.runs)
    place.database.rename(place.database.with_name("old.db"))
    assert "4 runs logged" in changeable.command("train-all", "--tracking").said
    assert set(runs_of(changeable)) == {"tiny, seed 0", *MEMBERS}


def test_copied_folder_of_runs_writes_into_itself(tracked: Run, changeable: Run):
    before = sorted(tracked.runs.rglob("*"))
    (changeable.folder / "report.html").write_text("<p>")
    changeable.command("ensemble", "--tracking")
    assert (artifacts_of(changeable, "ensemble") / "report.html").exists()
    assert sorted(tracked.runs.rglob("*")) == before
    old = f"%{tracked.runs.name}%"
    assert sql(changeable, "SELECT count(*) FROM runs WHERE artifact_uri LIKE ?", (old,)) == [(0,)]


def test_collapsed_member_is_shown_as_failed(changeable: Run):
    path = changeable.folder / "members" / "patchcore" / "fold-1.npz"
    arrays, meta = read_arrays(path)
    write_arrays(path, arrays, meta | {"collapsed": "patchcore: all scores are equal."})
    TrackingPlace(changeable.runs).database.unlink()
    assert "4 runs logged" in changeable.command("train-all", "--tracking").said
    run = runs_of(changeable)["patchcore"]
    assert run.info.status == "FAILED"
    assert "all scores are equal" in run.data.tags["mlflow.note.content"]
    assert "out_of_fold/auroc" not in run.data.metrics


# ---- without it


def test_without_the_extra_nothing_is_said_and_nothing_written(
    fitted: tuple[Run, Outcome], tmp_path, monkeypatch
):
    run = fitted[0].copy(tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    outcome = run.command("ensemble", "--tracking", "--json")
    assert outcome.code == 0
    assert outcome.json == fitted[1].json
    assert "tracking" not in outcome.err
    assert "logged in" not in outcome.said
    assert not list(run.runs.glob("*tracking*"))


@pytest.mark.parametrize("how", ["option", "environment"])
def test_switched_off(fitted: tuple[Run, Outcome], tmp_path, monkeypatch, how):
    run = fitted[0].copy(tmp_path)
    monkeypatch.setenv("OUTNUMBERED_TRACKING", "0" if how == "environment" else "1")
    assert run.command("train-all", *(["--no-tracking"] if how == "option" else [])).code == 0
    assert not list(run.runs.glob("*tracking*"))


def test_environment_that_means_nothing(tiny: Run, monkeypatch):
    monkeypatch.setenv("OUTNUMBERED_TRACKING", "perhaps")
    outcome = tiny.command("train-all")
    assert outcome.code == 2
    assert "OUTNUMBERED_TRACKING" in outcome.said


def refused(run: Run, reason: str) -> None:
    """The command works all the same and says in one sentence that it was not tracked."""
    outcome = run.command("train-all", "--tracking", "--json")
    assert outcome.code == 0
    assert outcome.json["fits_done"] == 16
    assert outcome.said.count("Not tracked") == 1
    assert f"tracking.db: {reason}" in outcome.said
    assert "The run itself is whole" in outcome.said
    assert "sqlalche.me" not in outcome.err
    assert "WARNING" not in outcome.err


def test_mlflow_that_cannot_be_imported(fitted: tuple[Run, Outcome], tmp_path, monkeypatch):
    run = fitted[0].copy(tmp_path)
    monkeypatch.setattr(tracker, "tracking_is_installed", lambda: True)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    refused(run, "import of mlflow halted")


def test_database_that_is_none(fitted: tuple[Run, Outcome], tmp_path):
    run = fitted[0].copy(tmp_path)
    (run.runs / "tracking.db").write_bytes(b"not a database" * 100)
    refused(run, "file is not a database")
    assert (run.runs / "tracking.db").read_bytes() == b"not a database" * 100


def test_database_that_is_a_folder(fitted: tuple[Run, Outcome], tmp_path):
    run = fitted[0].copy(tmp_path)
    (run.runs / "tracking.db").mkdir()
    refused(run, "unable to open database file")


def test_locked_database(changeable: Run, monkeypatch):
    monkeypatch.setattr(tracking_place, "_SECONDS_TO_WAIT", 0.05)
    forget(changeable)
    with closing(sqlite3.connect(TrackingPlace(changeable.runs).database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        refused(changeable, "database is locked")


def test_store_that_breaks_half_way(changeable: Run, monkeypatch):
    from mlflow import MlflowClient

    def fail(*given):
        raise OSError("disk I/O error\nmore lines")

    forget(changeable)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", fail)
        refused(changeable, "disk I/O error.")
    assert "4 runs logged" in changeable.command("train-all", "--tracking").said


def test_experiment_deleted_in_mlflow(changeable: Run):
    sql(changeable, "UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'blotches'")
    forget(changeable)
    refused(changeable, "experiment blotches was deleted there.")


def test_nothing_is_sent(tracked: Run):
    code = """
import socket, sys, threading
from pathlib import Path
tried = []
socket.socket.connect = lambda self, address: tried.append(address)
socket.getaddrinfo = lambda *given, **options: tried.append(given)
from workflow.tracking.mlflow_store import open_client
from workflow.tracking.place import TrackingPlace
open_client(TrackingPlace(Path(sys.argv[1]))).search_experiments()
from mlflow.telemetry import get_telemetry_client
print(get_telemetry_client(), tried, [thread.name for thread in threading.enumerate()])
"""
    # MLflow is silent wherever it believes to be tested, so take from the environment what tells it so.
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code, tracked.runs],
        cwd=ROOT,
        env=plain,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == "None [] ['MainThread']"


# ---- ui


def test_ui_without_a_database(tmp_path):
    outcome = run_command("ui", "--runs", tmp_path)
    assert outcome.code == 5
    assert outcome.said.startswith(
        f"Error: {tmp_path}/tracking.db: no tracking database yet. Train something"
    )
    assert outcome.out == ""


def test_ui_without_a_database_and_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "alembic", None)
    outcome = run_command("ui", "--runs", tmp_path)
    assert outcome.code == 5
    assert "pip install -e '.[tracking]'" in outcome.said


def test_ui_without_the_server_prints_the_commands(tracked: Run, monkeypatch):
    monkeypatch.setattr("workflow.tracking.ui._server_is_installed", lambda: False)
    outcome = run_command("ui", "--runs", tracked.runs, "--port", 5123)
    assert outcome.code == 0
    assert outcome.out == ""
    lines = [line.strip() for line in outcome.err.splitlines()]
    installed = importlib.metadata.version("mlflow-skinny")
    assert f"mlflow-ui/bin/pip install mlflow=={installed}" in lines
    command = next(line for line in lines if "bin/mlflow ui" in line)
    assert "MLFLOW_DISABLE_TELEMETRY=true" in command
    assert f"--backend-store-uri 'sqlite:///{tracked.runs}/tracking.db'" in command
    assert f"--artifacts-destination {tracked.runs}/tracking-artifacts" in command.replace("'", "")
    assert "--host 127.0.0.1 --port 5123" in command


def test_without_the_extra_the_version_named_is_the_range_that_it_allows(monkeypatch):
    from workflow.tracking import ui

    def version(name):
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", version)
    allowed = ui._package().removeprefix("mlflow")
    assert f'"mlflow-skinny{allowed}"' in (ROOT / "pyproject.toml").read_text()


def test_ui_with_the_server_becomes_it(tracked: Run, monkeypatch):
    seen = []
    monkeypatch.setattr("workflow.tracking.ui._server_is_installed", lambda: True)
    monkeypatch.setattr(os, "execve", lambda *given: seen.append(given))
    run_command("ui", "--runs", tracked.runs)
    program, arguments, environment = seen[0]
    assert program == sys.executable
    assert arguments[1:4] == ["-m", "mlflow", "ui"]
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    assert arguments[arguments.index("--backend-store-uri") + 1] == f"sqlite:///{tracked.runs}/tracking.db"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == environment["DO_NOT_TRACK"] == "true"


def test_skinny_is_no_server(monkeypatch):
    from workflow.tracking.ui import _server_is_installed

    def version(name):
        if name == "mlflow":
            raise importlib.metadata.PackageNotFoundError
        return "3.17.2"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert not _server_is_installed()


# ---- parts


def test_flat():
    document = {"a": {"b": 1, "c": {"d": None}}, "e": "words", "f": [1, "ä"], "g": {}}
    assert flat(document) == {"a.b": "1", "a.c.d": "null", "e": "words", "f": '[1, "ä"]', "g": "{}"}


def test_path_that_sqlalchemy_would_misread_is_refused(fitted: tuple[Run, Outcome], tmp_path):
    folder = tmp_path / "what?"
    shutil.copytree(fitted[0].runs, folder)
    refused(Run(fitted[0].dataset, fitted[0].recipe, folder), "a path with '?'")
