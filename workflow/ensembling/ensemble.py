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
from contracts.scores import ScoreTable
from contracts.triage import TRIAGE_NAMES
from ensemble.fitted import FittedEnsemble
from ensemble.triage import parse_triage, require_support
from ensemble.without_labels import fit_without_labels
from reporting.result_tables import print_results
from reporting.terminal import console, note
from workflow.ensembling.first_look import keep_first_look, print_first_look
from workflow.ensembling.in_use import measure_in_use
from workflow.ensembling.kinds import add_kinds
from workflow.ensembling.measuring import (
    ENSEMBLE_ROW,
    Repeat,
    fit_rows,
    judged_repeats,
    measure_repeats,
)
from workflow.ensembling.repeats import select_repeats
from workflow.ensembling.stability import measure_stability
from workflow.run.feedback_scores import note_unusable_feedback, with_sentence
from workflow.run.regime import regime_sentences
from workflow.run.score_tables import probability_columns, write_score_table
from workflow.run.state import Run
from workflow.run.student_file import note_stale_student
from workflow.run.summary import prior_sentence
from workflow.settings.config import RunOptions
from workflow.settings.options_file import write_options
from workflow.tracking.tracker import track_ensemble


def ensemble(options: RunOptions) -> dict[str, Any]:
    """Fit, measure and export the ensemble of a trained run; a finished one is only shown.

    Returns:
        ``{dataset, recipe, regime, measured, model, threshold, prior, minority, rows, triage, in_use,
        stability}``, the JSON document of ``ensemble --json``. ``measured`` is ``test_set`` or
        ``cross_validation``. Without a labelled minority image ``measured`` and ``prior`` are None, ``rows``
        is empty, and ``flagged`` counts the
        ``images`` whose p-value reaches the threshold. Where a member cannot be exported, ``model`` is None
        and ``not_exported`` says why. Where kinds of the minority are known, ``kinds`` counts them and rows
        have figures by kind; see :func:`workflow.ensembling.kinds.add_kinds`. ``triage`` and ``in_use`` are
        those of :func:`workflow.ensembling.in_use.measure_in_use`, absent without labels.

    Raises:
        UsageError, DataError, ModelError: with one sentence each.
    """
    from workflow.ensembling.model_file import export_model

    run = Run.open(options)
    config = run.config
    left_out = run.left_out
    # Only where there is something trained to be asked for.
    write_options(run.folder, options)
    for name, reason in left_out.items():
        note(f"{name} is left out: {reason}")
    finished = run.finished
    if finished is not None:
        note(finished.get("not_exported") or f"Nothing to do: {finished['model']} is fitted and exported.")
        print_results(finished, run.sentences)
        _print_first_look(run, finished)
        track_ensemble(config, run.key, finished)
        note_stale_student(run)
        return finished

    note_unusable_feedback(config, run.data)
    for sentence in regime_sentences(config, run.data):
        note(sentence)
    selection = select_repeats(run)
    oof, test = run.tables_of(selection.repeats)
    # Before minutes of fitting, and with the member's name.
    test.require_complete()
    labelled = run.data.regime == "labelled"
    stack, document = _labelled(run, oof, test) if labelled else _without_labels(run, oof)
    if run.data.n_repeats > 1:
        document["selection"] = selection.to_json()
        stack = replace(stack, sentences=(selection.sentence, *stack.sentences))
    write_score_table(run.folder / "oof.parquet", oof)
    _write_test_table(run, stack, test)
    # Kept before the export, which may fail; a run without a file still has its figures.
    run.keep_ensemble(stack, document)
    document["stability"] = measure_stability(run)
    print_results(document, stack.sentences)
    _print_first_look(run, document)
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


def _labelled(run: Run, oof: ScoreTable, test: ScoreTable) -> tuple[FittedEnsemble, dict[str, Any]]:
    """Fit and measure where there is at least one labelled minority image."""
    config = run.config
    with console.status("stacking and calibrating", spinner="dots"):
        if run.measured == "test_set":
            # What is shipped is what is judged.
            fitted = fit_rows(run, oof)
            stack, repeats = fitted[ENSEMBLE_ROW], [(fitted, test)]
        else:
            stack, repeats = fit_rows(run, oof)[ENSEMBLE_ROW], judged_repeats(run)
    if stack.minority is not None:
        rule = parse_triage(config.recipe.triage)
        require_support(rule, stack.normal, stack.minority, stack.class_names[-1])
    stack = with_sentence(stack, run.data)
    if sentence := prior_sentence(config, run.data):
        stack = replace(stack, sentences=(*stack.sentences, sentence))
    where = "on the test set" if run.measured == "test_set" else "by nested cross-validation"
    with console.status(f"measuring {where}", spinner="dots"):
        rows = measure_repeats(run, repeats)
        by_kind = add_kinds(run, repeats, rows)
    for row in rows:
        # They mean something only with a correction for many comparisons, which compare makes.
        row.pop("p_values")
    _write_metrics_parquet(run.folder / "metrics.parquet", rows)
    _write_judged_table(run, repeats[0])
    document: dict[str, Any] = {
        "dataset": config.spec.name,
        "recipe": config.recipe.name,
        "regime": run.data.regime,
        "measured": run.measured,
        "model": str(run.model),
        "threshold": stack.threshold,
        "prior": stack.deployment_prior,
        "minority": stack.class_names[-1],
        "rows": rows,
        **by_kind,
        **measure_in_use(run, repeats[0]),
    }
    if run.measured == "cross_validation":
        fitted, judged = repeats[0]
        document["first_look"] = str(keep_first_look(run, fitted[ENSEMBLE_ROW], judged))
    return stack, document


def _without_labels(run: Run, oof: ScoreTable) -> tuple[FittedEnsemble, dict[str, Any]]:
    """Fit where no minority image is labelled: there is nothing to calibrate and nothing to measure."""
    config = run.config
    stack = fit_without_labels(oof, regime=run.data.regime, threshold_rule=config.recipe.threshold)
    p_normal = stack.p_normal(oof.scores)
    for name in ("metrics.parquet", _JUDGED_FILE):  # of an earlier fit with labels
        (run.folder / name).unlink(missing_ok=True)
    document: dict[str, Any] = {
        "dataset": config.spec.name,
        "recipe": config.recipe.name,
        "regime": run.data.regime,
        "measured": None,
        "model": str(run.model),
        "threshold": stack.threshold,
        "prior": None,
        "images": len(oof.row_ids),
        "members": list(oof.member_names),
        "flagged": int((p_normal <= stack.threshold).sum()),
        "rows": [],
        "first_look": str(keep_first_look(run, stack, oof)),
    }
    return stack, document


def _print_first_look(run: Run, document: dict[str, Any]) -> None:
    """What is worth a look, if the run says; a run with a test set does not."""
    if "first_look" in document:
        print_first_look(run)


_JUDGED_FILE = "cross_validated.parquet"


def _write_test_table(run: Run, stack: FittedEnsemble, test: ScoreTable) -> None:
    """``test.parquet``: the test rows and what the shipped ensemble says of them; none without them."""
    path = run.folder / "test.parquet"
    if not len(test.row_ids):
        path.unlink(missing_ok=True)
        return
    write_score_table(path, test, _said(stack, test))


def _write_judged_table(run: Run, repeat: Repeat) -> None:
    """``cross_validated.parquet``: each training row with what the fit without its fold says of it."""
    path = run.folder / _JUDGED_FILE
    if run.measured == "test_set":
        path.unlink(missing_ok=True)
        return
    fitted, judged = repeat
    write_score_table(path, judged, _said(fitted[ENSEMBLE_ROW], judged))


def _said(fitted: FittedEnsemble, table: ScoreTable) -> dict[str, Any]:
    """Columns with an ensemble's probabilities, p-values and decisions."""
    decision = np.array(table.class_names)[fitted.decide(table.scores)]
    return {
        **(probability_columns(fitted, table) if fitted.has_probability else {}),
        "p_normal": fitted.p_normal(table.scores),
        **({"p_minority": fitted.p_minority(table.scores)} if fitted.has_probability else {}),
        "decision": decision,
        **({"triage": np.array(TRIAGE_NAMES)[fitted.triage(table.scores)]} if fitted.has_probability else {}),
    }


def _write_metrics_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic_writer(path) as handle:
        pq.write_table(pa.Table.from_pylist(flat_metrics(rows)), handle, compression="zstd")


def flat_metrics(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per model and metric: value, interval, and difference from the baseline with its interval."""
    return [
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
