"""Writing runs into MLflow's SQLite store; imported and opened only when there is something new.

The store is used directly rather than by ``mlflow.start_run`` and the like: no global state, no
environment variables of the user's own tracking server, no ``mlruns`` folder where the command was run.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

from contracts.errors import ModelError
from workflow.tracking.database import KEY_TAG, TrackingPlace, copy_changed, folder_of
from workflow.tracking.records import Entry, TrackedRun

# MLflow's limits on one call.
_METRICS_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100


class MlflowTracker:
    """Keeps the database up to date with the run folders.

    Args:
        place: where it lies.
    """

    def __init__(self, place: TrackingPlace) -> None:
        self.place = place

    def sync(self, experiment: str, parent: Entry, entries: list[Entry]) -> int:
        """Log what is not logged yet and copy files that changed.

        :class:`workflow.tracking.tracker.Tracker` says what the arguments are.
        A run that a kill left half logged has its rest added: values and times are those of the files, and
        MLflow keeps equal values once.
        """
        self.place.follow_move()
        known = self.place.finished_runs()
        for entry in (parent, *entries):
            if folder := known.get(entry.key):
                copy_changed(entry.files, folder)
        fresh = [
            (entry, run) for entry in entries if entry.key not in known and (run := entry.build()) is not None
        ]
        if fresh:
            _Writer(self.place, experiment).write(parent, fresh)
        return len(fresh)


class _Writer:
    """An open store and the experiment to write to."""

    def __init__(self, place: TrackingPlace, experiment: str) -> None:
        self.store = _open_store(place)
        self.location = (place.artifacts / experiment).as_uri()
        found = self.store.get_experiment_by_name(experiment)
        if found is None:
            self.experiment_id = self.store.create_experiment(experiment, self.location)
        elif found.lifecycle_stage == "active":
            self.experiment_id = found.experiment_id
        else:
            raise ModelError(
                f"experiment {experiment} was deleted there. Restore it in MLflow, or use --no-tracking"
            )

    def write(self, parent: Entry, fresh: list[tuple[Entry, TrackedRun]]) -> None:
        """Write runs, nested in ``parent``, which is made when it is missing."""
        run = parent.build()
        if run is None:
            return
        parent_id = self._one(parent, run, {}, min(one.ended - one.seconds for _, one in fresh))
        for entry, one in fresh:
            self._one(entry, one, {"mlflow.parentRunId": parent_id}, one.ended - one.seconds)
        self._finish(parent_id, run, max(one.ended for _, one in fresh))

    def _one(self, entry: Entry, run: TrackedRun, tags: dict[str, str], started: float) -> str:
        from mlflow.entities import Metric, Param, RunTag, ViewType

        with_key = f"tags.`{KEY_TAG}` = '{entry.key}'"
        found = self.store.search_runs([self.experiment_id], with_key, ViewType.ACTIVE_ONLY, max_results=1)
        if found:
            info = found[0].info
        else:
            all_tags = [RunTag(key, value) for key, value in ({KEY_TAG: entry.key} | tags | run.tags).items()]
            start_ms = int(1000 * started)
            info = self.store.create_run(self.experiment_id, "", start_ms, all_tags, run.name).info
        end_ms = int(1000 * run.ended)
        params = [Param(key, value) for key, value in run.params.items()]
        metrics = [Metric(name, value, end_ms, step) for name, value, step in run.metrics]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self.store.log_batch(info.run_id, [], params[start : start + _PARAMS_AT_ONCE], [])
        for start in range(0, len(metrics), _METRICS_AT_ONCE):
            self.store.log_batch(info.run_id, metrics[start : start + _METRICS_AT_ONCE], [], [])
        copy_changed(entry.files, folder_of(info.artifact_uri))
        self._finish(info.run_id, run, run.ended)
        return str(info.run_id)

    def _finish(self, run_id: str, run: TrackedRun, ended: float) -> None:
        """Last of all: from now on the run counts as logged."""
        from mlflow.entities import RunStatus

        status = RunStatus.FAILED if run.failed else RunStatus.FINISHED
        self.store.update_run_info(run_id, status, int(1000 * ended), run.name)


def _open_store(place: TrackingPlace) -> Any:
    """MLflow's store on the database, which is made when it is missing."""
    # Read when mlflow is imported; what is trained here is nobody else's business.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    # Its warnings would repeat, in many lines, what the one sentence of workflow.tracking.tracker says.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    root = place.artifacts.as_uri()
    if not place.database.exists():
        place.database.parent.mkdir(parents=True, exist_ok=True)
        # The tables take seconds to make; a kill meanwhile must not leave half of them.
        fresh = place.database.with_name(f".{place.database.name}.{os.getpid()}.tmp")
        fresh.unlink(missing_ok=True)
        try:
            SqlAlchemyStore(place.uri(fresh), root).engine.dispose()
            _give_name(place, fresh)
        finally:
            fresh.unlink(missing_ok=True)
    return SqlAlchemyStore(place.uri(), root)


def _give_name(place: TrackingPlace, fresh: Any) -> None:
    try:
        # Unlike a rename, a link never takes the place of what another command has made meanwhile.
        os.link(fresh, place.database)
    except FileExistsError:
        return
    except OSError:  # no hard links on this file system
        fresh.rename(place.database)
