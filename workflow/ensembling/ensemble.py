"""``ensemble``: stack what the folds held out, calibrate, set the threshold, measure, export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import NotExportableError
from contracts.files import atomic_writer
from ensemble.pipeline import fit_all
from reporting.result_tables import print_results
from reporting.terminal import console, note
from workflow.ensembling.measuring import ENSEMBLE_ROW, measure
from workflow.ensembling.repeats import select_repeats
from workflow.run.feedback_scores import note_unusable_feedback, with_sentence
from workflow.run.score_tables import probability_columns, write_score_table
from workflow.run.state import Run
from workflow.run.student_file import note_stale_student
from workflow.run.summary import prior_sentence
from workflow.settings.config import RunOptions
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

    run = Run.open(options)
    config = run.config
    for name, reason in run.left_out.items():
        note(f"{name} is left out: {reason}")
    finished = run.finished
    if finished is not None:
        note(finished.get("not_exported") or f"Nothing to do: {finished['model']} is fitted and exported.")
        print_results(finished, run.sentences)
        track_ensemble(config, run.key, finished)
        note_stale_student(run)
        return finished

    note_unusable_feedback(config, run.data)
    selection = select_repeats(run)
    oof, test = run.tables_of(selection.repeats)
    # Before minutes of fitting, and with the member's name.
    oof.require_complete()
    test.require_complete()
    with console.status("stacking and calibrating", spinner="dots"):
        fitted = fit_all(
            oof, deployment_prior=run.prior, threshold_rule=config.recipe.threshold, seed=config.seed
        )
    stack = with_sentence(fitted[ENSEMBLE_ROW], run.data)
    if sentence := prior_sentence(config, run.data):
        stack = replace(stack, sentences=(*stack.sentences, sentence))
    with console.status("measuring on the test set", spinner="dots"):
        rows = measure(config, fitted, test)
    for row in rows:
        # They mean something only with a correction for many comparisons, which compare makes.
        row.pop("p_values")
    document: dict[str, Any] = {
        "dataset": config.spec.name,
        "recipe": config.recipe.name,
        "model": str(run.model),
        "threshold": stack.threshold,
        "prior": stack.deployment_prior,
        "rows": rows,
    }
    if run.data.n_repeats > 1:
        document["selection"] = selection.to_json()
        stack = replace(stack, sentences=(selection.sentence, *stack.sentences))
    write_score_table(run.folder / "oof.parquet", oof)
    decision = np.array(test.class_names)[stack.decide(test.scores)]
    write_score_table(
        run.folder / "test.parquet", test, {**probability_columns(stack, test), "decision": decision}
    )
    _write_metrics_parquet(run.folder / "metrics.parquet", rows)
    # Kept before the export, which may fail; a run without a file still has its figures.
    run.keep_ensemble(stack, document)
    print_results(document, stack.sentences)
    try:
        run.keep_export(export_model(run)["sha256"])
    except NotExportableError as error:
        document |= {"model": None, "not_exported": str(error)}
        # A file of another ensemble in this place would be taken for this one's.
        for name in ("model.onnx", "export.json"):
            (run.folder / name).unlink(missing_ok=True)
        run.keep_export("")
        note(str(error))
    track_ensemble(config, run.key, document)
    note_stale_student(run)
    return document


def _write_metrics_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """One row per model and metric: value, interval, and difference from the baseline with its interval."""
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
