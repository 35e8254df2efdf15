"""``ui``: MLflow's pages on the tracked runs, where all of MLflow is installed, or how to get them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shlex
import sys
from pathlib import Path

from rich.markup import escape

from contracts.errors import ModelError
from reporting.terminal import console, note
from workflow.tracking.place import TrackingPlace
from workflow.tracking.tracker import tracking_is_installed

_OWN_ENVIRONMENT = "mlflow-ui"
# Nothing is sent anywhere, and the server starts no workers for jobs that we have none of.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


def ui(runs: Path, port: int) -> None:
    """Become MLflow's server on this machine's own address, or print the commands that start one.

    Args:
        runs: folder of runs.
        port: to listen on.

    Raises:
        ModelError: nothing was tracked there yet.
    """
    place = TrackingPlace(runs)
    if not place.database.is_file():
        if tracking_is_installed():
            advice = "Train something, or repeat a command: what is finished is logged then."
        else:
            advice = "Tracking is not installed: pip install -e '.[tracking]', and repeat any command."
        raise ModelError(f"{place.database}: no tracking database yet. {advice}")
    arguments = [
        *("ui", "--backend-store-uri", place.uri()),
        *("--artifacts-destination", str(place.artifacts)),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
    ]
    if _server_is_installed():
        note(f"http://127.0.0.1:{port} shows {place.database}; Ctrl-C ends it.")
        os.execve(sys.executable, [sys.executable, "-m", "mlflow", *arguments], os.environ | _ENVIRONMENT)
    note(
        "MLflow's pages need all of MLflow, and only the part that logs is installed here. "
        "Get it into an environment of its own:"
    )
    words = [f"{name}={value}" for name, value in _ENVIRONMENT.items()]
    for command in (
        f"python -m venv {_OWN_ENVIRONMENT}",
        f"{_OWN_ENVIRONMENT}/bin/pip install {shlex.quote(_package())}",
        shlex.join([*words, f"{_OWN_ENVIRONMENT}/bin/mlflow", *arguments]),
    ):
        # Not wrapped, so that it can be copied.
        console.print(f"  {escape(command)}", soft_wrap=True)
    note(f"Then open http://127.0.0.1:{port}.")


def _package() -> str:
    """MLflow in the version that logs here: another one may want another layout of the database."""
    try:
        return f"mlflow=={importlib.metadata.version('mlflow-skinny')}"
    except importlib.metadata.PackageNotFoundError:
        return "mlflow>=3.17,<4"


def _server_is_installed() -> bool:
    """Whether the distribution ``mlflow`` is there; ``mlflow-skinny`` has the code, but no pages."""
    try:
        importlib.metadata.version("mlflow")
    except importlib.metadata.PackageNotFoundError:
        return False
    return importlib.util.find_spec("flask") is not None
