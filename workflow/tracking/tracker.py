"""Tracking: a copy of what was measured, in MLflow, for looking at many runs side by side.

It is on where the extra ``tracking`` is installed, and off with ``--no-tracking`` or
``OUTNUMBERED_TRACKING=0``. The files in the run folder stay the source of truth: all that is logged is
read from them, after the work is done, so a command that finds something unlogged logs it, whether it
was measured just now or long ago. Nothing leaves the machine. A database that fails ends no command:
one sentence says so.
"""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reporting.terminal import note
from workflow.run.fits import Fit
from workflow.run.prepared import PreparedData
from workflow.settings.config import RunConfig
from workflow.tracking.mlflow_store import log_missing
from workflow.tracking.place import TrackingPlace
from workflow.tracking.records import Entry, comparison_entry, ensemble_entry, member_entry, run_entry

PACKAGES = ("mlflow", "sqlalchemy", "alembic")


def tracking_is_installed() -> bool:
    """Whether the extra ``tracking`` is installed; imports nothing of it."""
    return all(importlib.util.find_spec(name) is not None for name in PACKAGES)


def track_training(config: RunConfig, data: PreparedData, fits: list[Fit]) -> None:
    """Log every member whose fits are given and finished."""
    fits_of_member: dict[str, list[Fit]] = {}
    for fit in fits:
        fits_of_member.setdefault(fit.member.name, []).append(fit)
    _sync(config, lambda run: [member_entry(run, data, mine) for mine in fits_of_member.values()])


def track_ensemble(config: RunConfig, key: str, document: dict[str, Any]) -> None:
    """Log a fitted, measured and exported ensemble; one that is logged gets files that are new since.

    Args:
        config: of the run.
        key: of the ensemble, see :attr:`workflow.run.state.Run.key`.
        document: that of ``ensemble --json``.
    """
    _sync(config, lambda run: [ensemble_entry(config, run, key, document)])


def track_comparison(config: RunConfig, document: dict[str, Any]) -> None:
    """Log a comparison.

    Args:
        config: of the run, with the members compared.
        document: that of ``compare --json``.
    """
    _sync(config, lambda run: [comparison_entry(config, run, document)])


def _sync(config: RunConfig, entries_of: Callable[[Entry], list[Entry]]) -> None:
    """One sentence instead of an exception, whatever goes wrong: the run is whole without its copy."""
    if not config.options.tracking or not tracking_is_installed():
        return
    runs = config.options.runs
    place = TrackingPlace(runs)
    try:
        parent = run_entry(config)
        logged = log_missing(place, config.spec.name, parent, entries_of(parent))
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        note(
            f"Not tracked: {place.database}: {reason}. The run itself is whole; the same command logs it "
            "later, also into a new database when this one is moved away. --no-tracking leaves it out."
        )
    else:
        if logged:
            noun = "run" if logged == 1 else "runs"
            note(f"{logged} {noun} logged in {place.database}; to look at them: {ui_command(runs)}")


def ui_command(runs: Path) -> str:
    """The command that shows what was logged."""
    words = ["python", "cli.py", "ui"]
    if runs != Path("runs"):
        words += ["--runs", str(runs)]
    return shlex.join(words)
