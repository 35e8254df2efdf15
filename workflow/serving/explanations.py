"""Explanations for the service, in a child process that opens the run once and keeps it open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts.worker_process import Announce, Work
from reporting.terminal import console
from workflow.settings.options_file import read_options


def explain_by_run(run: Path, folder: Path) -> Work[Path, dict[str, Any]]:
    """Open a finished run; return what explains one image.

    Args:
        run: its folder.
        folder: where the pictures are written.

    Raises:
        UsageError: no run.
        ModelError: it is not finished.
    """
    # What a run needs is loaded in the child alone.
    from workflow.explaining.explain import explain
    from workflow.run.state import Run

    # The page shows what the command would print.
    console.quiet = True
    options = replace(read_options(run), tracking=False, jobs=1)
    Run.open(options).require_ensemble()

    def work(image: Path, _: Announce) -> dict[str, Any]:
        document = explain(options, [image], folder)
        [explained] = document["images"]
        return {"picture": explained["picture"], "sentences": _sentences(explained, document["notes"])}

    return work


def _sentences(explained: dict[str, Any], notes: list[str]) -> list[str]:
    """What the picture shows, for whoever cannot see it."""
    found = []
    for number, patch in enumerate(explained["patches"], 1):
        near = "; ".join(f"{each['name']} at {each['distance']:.3g}" for each in patch["nearest"])
        found.append(
            f"Deciding patch {number}: distance {patch['distance']:.3g}. Nearest normal patches: {near}."
        )
    return [*found, *notes]
