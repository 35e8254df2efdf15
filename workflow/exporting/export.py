"""``export``: the file of a finished run once more, or in another place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import NotExportableError
from workflow.ensembling.finished import read_finished
from workflow.ensembling.model_file import check_output, export_model
from workflow.settings.config import RunOptions, resolve_config

if TYPE_CHECKING:
    pass

from export.scoring.model import load_model
from workflow.ensembling.finished import FinishedRun


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
    run = read_finished(resolve_config(options))
    if "not_exported" in run.document:
        raise NotExportableError(run.document["not_exported"])
    rows = run.document["rows"]
    return export_model(run.config, run.data, run.results, run.fitted, run.test, rows, output, run.repeats)


def float32_file(run: FinishedRun) -> Path:
    """The run's float32 file, exported anew where it is missing or of another fit."""
    path = run.config.folder / "model.onnx"
    if path.exists() and load_model(path).document.get("ensemble") == json.loads(
        json.dumps(run.fitted.to_json())
    ):
        return path
    export_model(
        run.config, run.data, run.results, run.fitted, run.test, run.document["rows"], None, run.repeats
    )
    return path
