"""``ensemble``: stack what the folds held out, calibrate, set the threshold, measure, export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import NotExportableError
from contracts.files import atomic_writer, read_json, write_json
from ensemble.pipeline import fit_all
from reporting.result_tables import print_results
from reporting.terminal import console, note
from workflow.ensembling.measuring import ENSEMBLE_ROW, measure
from workflow.ensembling.repeats import fits_to_select_from, select_repeats
from workflow.run.added_scores import note_left_out, with_added_rows, with_sentence
from workflow.run.fits import fits_of
from workflow.run.prepared import load_prepared
from workflow.run.score_tables import (
    collapsed_members,
    finished_results,
    probability_columns,
    score_tables,
    write_score_table,
)
from workflow.run.state import ensemble_key, finished_document
from workflow.run.student_file import note_stale_student
from workflow.run.summary import deployment_prior
from workflow.settings.config import RunOptions, resolve_config
from workflow.tracking.tracker import track_ensemble


def ensemble(options: RunOptions) -> dict[str, Any]:
    """Fit, measure and export the ensemble of a trained run; a finished one is only shown.

    Returns:
        ``{dataset, recipe, model, threshold, prior, rows}``, the JSON document of ``ensemble --json``.
        Where a member cannot be exported, ``model`` is None and ``not_exported`` says why.

    Raises:
        UsageError, DataError, ModelError: with one sentence each.
    """
    from workflow.ensembling.model_file import export_model

    config = resolve_config(options)
    data = load_prepared(config)
    fits = fits_to_select_from(config.recipe, fits_of(config, data, config.members))
    results = finished_results(config, fits)
    left_out = collapsed_members(results)
    for name, reason in left_out.items():
        note(f"{name} is left out: {reason}")
    key = ensemble_key(config, fits)
    finished = finished_document(config, key)
    if finished is not None:
        note(finished.get("not_exported") or f"Nothing to do: {finished['model']} is fitted and exported.")
        print_results(finished, read_json(config.folder / "ensemble.json")["sentences"])
        track_ensemble(config, key, finished)
        note_stale_student(config, key)
        return finished

    note_left_out(config, data)
    results = with_added_rows(config, data, results)
    selection = select_repeats(config, data, results, left_out)
    oof, test = score_tables(data, results, left_out, selection.repeats)
    oof.require_complete()
    test.require_complete()
    prior = deployment_prior(config, data)
    with console.status("stacking and calibrating", spinner="dots"):
        fitted = fit_all(
            oof, deployment_prior=prior, threshold_rule=config.recipe.threshold, seed=config.seed
        )
    stack = with_sentence(fitted[ENSEMBLE_ROW], data)
    with console.status("measuring on test rows", spinner="dots"):
        rows = measure(config, fitted, test)
    for row in rows:
        # Of use only with a correction for many comparisons, which is compare's business.
        row.pop("p_values")
    document: dict[str, Any] = {
        "dataset": config.spec.name,
        "recipe": config.recipe.name,
        "model": str(config.folder / "model.onnx"),
        "threshold": stack.threshold,
        "prior": stack.deployment_prior,
        "rows": rows,
    }
    if config.recipe.repeats > 1:
        document["selection"] = selection.to_json()
        stack = replace(stack, sentences=(selection.sentence, *stack.sentences))
    write_score_table(config.folder / "oof.parquet", oof)
    decision = np.array(test.class_names)[stack.decide(test.scores)]
    write_score_table(
        config.folder / "test.parquet", test, {**probability_columns(stack, test), "decision": decision}
    )
    write_json(config.folder / "ensemble.json", stack.to_json())
    _write_metrics_parquet(config.folder / "metrics.parquet", rows)
    write_json(config.folder / "metrics.json", {"key": key, "model_sha256": "", "document": document})
    print_results(document, stack.sentences)
    try:
        exported = export_model(config, data, results, stack, test, rows, repeats=selection.repeats)
    except NotExportableError as error:
        document |= {"model": None, "not_exported": str(error)}
        # A file of another ensemble in this place would be taken for this one's.
        for name in ("model.onnx", "export.json"):
            (config.folder / name).unlink(missing_ok=True)
        exported = {"sha256": ""}
        note(str(error))
    # Written last: from now on the run counts as finished.
    write_json(
        config.folder / "metrics.json", {"key": key, "model_sha256": exported["sha256"], "document": document}
    )
    track_ensemble(config, key, document)
    note_stale_student(config, key)
    return document


def _write_metrics_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """One row a model and metric: value, interval, and the difference from the baseline with its interval."""
    flat = [
        {
            "name": row["name"],
            "kind": row["kind"],
            "metric": metric,
            "value": row[metric],
            "low": row["intervals"][metric][0],
            "high": row["intervals"][metric][1],
            "minus_baseline": row["minus_baseline"][metric][0],
            "minus_baseline_low": row["minus_baseline"][metric][1],
            "minus_baseline_high": row["minus_baseline"][metric][2],
        }
        for row in rows
        for metric in row["intervals"]
    ]
    with atomic_writer(path) as handle:
        pq.write_table(pa.Table.from_pylist(flat), handle, compression="zstd")
