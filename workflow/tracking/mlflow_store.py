"""Writing runs by MLflow's client; imported and opened only when there is something new.

A client with an address of its own rather than ``mlflow.start_run`` and the like: no global state, and no
environment variables of the user's own tracking server.

Artifact addresses have the scheme ``mlflow-artifacts:``, which MLflow's server looks up below the folder that
``ui`` names. They hold no absolute path, so a folder of runs may be moved or copied. No server runs while we
log, so files are copied to where it will look.
"""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote

from contracts.errors import ModelError
from workflow.tracking.place import TrackingPlace, copy_changed
from workflow.tracking.records import Entry, TrackedRun

_KEY_TAG = "outnumbered.key"
_SCHEME = "mlflow-artifacts:/"


def log_missing(place: TrackingPlace, experiment: str, parent: Entry, entries: list[Entry]) -> int:
    """Log what is not logged yet, and copy files that changed.

    A run that a kill left half logged has its rest added: values and times are those of the files, and
    MLflow keeps equal values once.

    Args:
        place: where runs are tracked.
        experiment: the data set.
        parent: the run of recipe and seed.
        entries: its members, ensembles and comparisons, logged as nested in it.

    Returns:
        How many were logged now.

    Raises:
        ModelError: the experiment was deleted, or the database cannot have an address.
    """
    logged = place.logged()
    for entry in (parent, *entries):
        if entry.key in logged:
            copy_changed(entry.files, place.artifacts / logged[entry.key])
    fresh = [(entry, run) for entry in entries if entry.key not in logged and (run := entry.build())]
    parent_run = parent.build() if fresh else None
    if parent_run is None:
        return 0
    writer = _Writer(place, experiment)
    parent_id = writer.log(parent, parent_run, {}, min(run.ended - run.seconds for _, run in fresh))
    for entry, run in fresh:
        writer.log(entry, run, {"mlflow.parentRunId": parent_id}, run.ended - run.seconds)
    writer.finish(parent_id, parent_run, max(run.ended for _, run in fresh))
    return len(fresh)


class _Writer:
    """An open database and the experiment to write to."""

    def __init__(self, place: TrackingPlace, experiment: str) -> None:
        self._place, self._experiment = place, experiment
        self._client = open_client(place)
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            self._id = self._client.create_experiment(experiment, _SCHEME + quote(experiment))
        elif found.lifecycle_stage == "active":
            self._id = found.experiment_id
        else:
            raise ModelError(
                f"experiment {experiment} was deleted there. Restore it in MLflow, or use --no-tracking"
            )

    def log(self, entry: Entry, run: TrackedRun, tags: dict[str, str], started: float) -> str:
        """Log a run, or the rest of it; return its id in MLflow."""
        from mlflow.entities import Metric, Param, ViewType

        with_key = f"tags.`{_KEY_TAG}` = '{entry.key}'"
        found = self._client.search_runs([self._id], with_key, ViewType.ALL, max_results=1)
        if found:
            info = found[0].info
        else:
            all_tags = {_KEY_TAG: entry.key} | tags | run.tags
            info = self._client.create_run(self._id, int(1000 * started), all_tags, run.name).info
        # What MLflow appends to the location of the experiment.
        folder = f"{quote(self._experiment)}/{info.run_id}/artifacts"
        # A run that was deleted in MLflow stays deleted, and is as good as logged.
        if info.lifecycle_stage == "active":
            end_ms = int(1000 * run.ended)
            # All with the time of the end: MLflow keys values by it, so logging the same file twice adds
            # nothing.
            metrics = [Metric(name, value, end_ms, step) for name, value, step in run.metrics]
            params = [Param(key, value) for key, value in run.params.items()]
            self._client.log_batch(info.run_id, metrics, params)
            copy_changed(entry.files, self._place.artifacts / folder)
            self.finish(info.run_id, run, run.ended)
        # Last of all: a kill before this leaves a run that the next command finds and completes.
        self._place.note_logged(entry.key, folder)
        return str(info.run_id)

    def finish(self, run_id: str, run: TrackedRun, ended: float) -> None:
        """Say how a run ended, and when."""
        self._client.set_terminated(run_id, "FAILED" if run.failed else "FINISHED", int(1000 * ended))


def open_client(place: TrackingPlace) -> Any:
    """MLflow's client of the database, which is made when it is missing.

    Raises:
        sqlite3.Error: what is there cannot be opened as a database.
    """
    place.check_readable()
    # Read when mlflow is imported; what is trained here is nobody else's business.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient
    # Its warnings would repeat, in many lines, what the one sentence of workflow.tracking.tracker says.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    if not place.database.exists():
        place.database.parent.mkdir(parents=True, exist_ok=True)
        # The tables take seconds to make; a kill meanwhile must not leave half of them.
        fresh = place.database.with_name(f".{place.database.name}.{os.getpid()}.tmp")
        fresh.unlink(missing_ok=True)
        try:
            MlflowClient(place.uri(fresh)).search_experiments()
            _give_name(fresh, place)
        finally:
            # The link keeps the file; only its temporary name goes.
            fresh.unlink(missing_ok=True)
    return MlflowClient(place.uri())


def _give_name(fresh: Path, place: TrackingPlace) -> None:
    place.ledger.unlink(missing_ok=True)  # of an earlier database
    try:
        # Unlike a rename, a link never takes the place of what another command has made meanwhile.
        os.link(fresh, place.database)
    except FileExistsError:
        return
    except OSError:  # no hard links on this file system
        fresh.rename(place.database)
