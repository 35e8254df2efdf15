"""``export``: the file of a finished run once more, or in another place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from contracts.errors import NotExportableError
from export.scoring.model import load_model
from workflow.ensembling.model_file import check_output, export_model
from workflow.run.state import Run
from workflow.settings.config import RunOptions


def export(options: RunOptions, output: Path | None = None) -> dict[str, Any]:
    """Export a run whose ensemble is fitted.

    Args:
        options: which run.
        output: target; the run folder's ``model.onnx`` when not given.

    Returns:
        ``{dataset, recipe, model, bytes, sha256, parity}``.

    Raises:
        ModelError: no ensemble yet, or the file fails its gate.
        NotExportableError: a member cannot be traced; says which, and how to go on without it.
    """
    check_output(output, "model.onnx")
    run = Run.open(options).require_ensemble()
    if "not_exported" in run.document:
        raise NotExportableError(run.document["not_exported"])
    return export_model(run, output)


def float32_file(run: Run) -> Path:
    """The run's float32 file, exported again where it is missing or of another ensemble."""
    path = run.model
    ensemble = json.loads(json.dumps(run.fitted.to_json()))
    if not path.exists() or load_model(path).document.get("ensemble") != ensemble:
        export_model(run)
    return path
