"""``ensemble``: stack what the folds held out, calibrate, set the threshold, measure, export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from contracts.errors import NotExportableError
from contracts.files import atomic_writer, digest_of, read_json, sha256_of_file, write_json
from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from ensemble.pipeline import fit_all
from evaluation.comparison import Predictions, compare_repeats
from evaluation.multiclass_comparison import MulticlassPredictions, compare_multiclass_repeats
from reporting.terminal import console, note
from workflow.ensembling.added_scores import note_left_out, with_added_rows, with_sentence
from workflow.ensembling.multiclass import SHOWN, print_class_recalls, probability_columns
from workflow.ensembling.repeats import select_repeats, units_to_select_from
from workflow.ensembling.score_tables import (
    collapsed_members,
    finished_results,
    score_tables,
    write_score_table,
)
from workflow.run.added import AddedRows
from workflow.run.prepared import load_prepared
from workflow.run.student_file import note_stale_student
from workflow.run.summary import deployment_prior
from workflow.run.units import Unit, units_of
from workflow.settings.config import RunConfig, RunOptions, resolve_config
from workflow.settings.registry import CONTROL, entry_of
from workflow.tracking.tracker import track_ensemble

CONTROL_ROW = "null_control"
ENSEMBLE_ROW = "ensemble"
# Raised when the fitting or the measuring changes, so that finished ensembles are fitted anew.
_ENSEMBLE_VERSION = 1


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
    units = units_to_select_from(config.recipe, units_of(config, data, config.members))
    results = finished_results(config, units)
    left_out = collapsed_members(results)
    for name, reason in left_out.items():
        note(f"{name} is left out: {reason}")
    key = ensemble_key(config, units)
    finished = finished_document(config, key)
    if finished is not None:
        note(finished.get("not_exported") or f"Nothing to do: {finished['model']} is fitted and exported.")
        _print_rows(finished, read_json(config.folder / "ensemble.json")["sentences"])
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
    with console.status("measuring on held-out rows", spinner="dots"):
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
        config.folder / "heldout.parquet", test, {**probability_columns(stack, test), "decision": decision}
    )
    write_json(config.folder / "ensemble.json", stack.to_json())
    _write_metrics_parquet(config.folder / "metrics.parquet", rows)
    write_json(config.folder / "metrics.json", {"key": key, "model_sha256": "", "document": document})
    _print_rows(document, stack.sentences)
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


def ensemble_key(config: RunConfig, units: list[Unit]) -> str:
    """Digest of everything that the ensemble depends on."""
    recipe = config.recipe
    # The first repeat makes the same ensemble whether or not there are more.
    selected = [recipe.select, recipe.select_by] if recipe.select != "first" and recipe.repeats > 1 else []
    added = AddedRows.read(config.folder).digest
    return digest_of(
        [
            _ENSEMBLE_VERSION,
            [unit.key for unit in units],
            recipe.threshold,
            recipe.bootstrap,
            config.spec.deployment_shares or config.spec.deployment_prior,
            config.seed,
            *selected,
            # Nothing where no update was made, so that keys are those of before there could be any.
            *([{"added": added}] if added else []),
        ]
    )


def finished_document(config: RunConfig, key: str) -> dict[str, Any] | None:
    """The document of an ensemble that is fitted, measured and, where it can be, exported; or None."""
    path, model = config.folder / "metrics.json", config.folder / "model.onnx"
    if not path.exists():
        return None
    saved = read_json(path)
    document: dict[str, Any] = saved["document"]
    if saved["key"] != key:
        return None
    if "not_exported" in document:
        return document
    if not model.exists() or saved["model_sha256"] != sha256_of_file(model):
        return None
    return document


Repeat = tuple[dict[str, FittedEnsemble], ScoreTable]
"""What was fitted on one repeat's out-of-fold scores, and that repeat's held-out scores."""


def measure(config: RunConfig, fitted: dict[str, FittedEnsemble], test: ScoreTable) -> list[dict[str, Any]]:
    """The table's rows: control first, then members, baselines and the ensemble."""
    return measure_repeats(config, [(fitted, test)])


def measure_repeats(config: RunConfig, repeats: Sequence[Repeat]) -> list[dict[str, Any]]:
    """The same over several repeats; see :func:`evaluation.comparison.compare_repeats`."""
    predictions = [predictions_of(config, *repeat) for repeat in repeats]
    return measure_predictions(config, predictions, repeats[0][1], CONTROL_ROW)


def measure_predictions(
    config: RunConfig,
    predictions: Sequence[dict[str, Predictions] | dict[str, MulticlassPredictions]],
    test: ScoreTable,
    control: str,
) -> list[dict[str, Any]]:
    """Rows of a table from what each of its models says of the held-out rows, repeat by repeat."""
    if len(test.class_names) > 2:
        return compare_multiclass_repeats(
            test.labels,
            test.groups,
            predictions,  # type: ignore[arg-type]
            control,
            test.class_names,
            seed=config.seed,
            n_replicates=config.recipe.bootstrap,
        )
    minority = (test.labels == len(test.class_names) - 1).astype(np.int64)
    return compare_repeats(
        minority,
        test.groups,
        predictions,  # type: ignore[arg-type]
        control,
        seed=config.seed,
        n_replicates=config.recipe.bootstrap,
    )


def models_of(config: RunConfig, fitted: dict[str, FittedEnsemble]) -> dict[str, tuple[str, FittedEnsemble]]:
    """Row of the table → its kind and what gets from scores to decisions; the control first."""
    types = {plan.name: plan.type for plan in config.members}
    models = {CONTROL_ROW: ("control", fitted[CONTROL])}
    for name, pipeline in fitted.items():
        if name in types:
            kind: str = entry_of(types[name]).kind
        else:
            kind = "ensemble" if name == ENSEMBLE_ROW else "baseline"
        models[name] = (kind, pipeline)
    return models


def predictions_of(
    config: RunConfig, fitted: dict[str, FittedEnsemble], test: ScoreTable
) -> dict[str, Predictions] | dict[str, MulticlassPredictions]:
    """What each row of the table says of the held-out rows."""
    return {
        name: prediction_of(kind, pipeline, test)
        for name, (kind, pipeline) in models_of(config, fitted).items()
    }  # type: ignore[return-value]


def prediction_of(kind: str, fitted: FittedEnsemble, test: ScoreTable) -> Predictions | MulticlassPredictions:
    """What one fitted row says of the held-out rows."""
    if len(test.class_names) > 2:
        return MulticlassPredictions(kind, fitted.predict(test.scores), fitted.decide(test.scores))
    return Predictions(kind, fitted.p_minority(test.scores), fitted.binary_threshold)


def _write_metrics_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """One row a model and metric: value, interval, and the difference from the control with its interval."""
    flat = [
        {
            "name": row["name"],
            "kind": row["kind"],
            "metric": metric,
            "value": row[metric],
            "low": row["intervals"][metric][0],
            "high": row["intervals"][metric][1],
            "minus_control": row["minus_control"][metric][0],
            "minus_control_low": row["minus_control"][metric][1],
            "minus_control_high": row["minus_control"][metric][2],
        }
        for row in rows
        for metric in row["intervals"]
    ]
    with atomic_writer(path) as handle:
        pq.write_table(pa.Table.from_pylist(flat), handle, compression="zstd")


# Metric → heading; the order of importance, as narrow terminals show the first ones only.
_SHOWN = {
    "auroc": "AUROC",
    "average_precision": "av. prec.",
    "balanced_accuracy": "bal. acc.",
    "recall": "recall",
    "brier": "Brier",
    "f1": "F1",
    "g_mean": "G-mean",
    "ece": "ECE",
    "hter": "HTER",
}
_NAME_WIDTH, _NAME_MARGIN, _CELL_WIDTH, _LEAST_SHOWN = 18, 5, 14, 3


def _print_rows(document: dict[str, Any], sentences: Any) -> None:
    """Print values with intervals, then differences from the control, as wide as the terminal allows."""
    print_values(f"{document['dataset']}: held-out rows, with 95 % intervals", document["rows"])
    shown = _shown_metrics(document["rows"])
    differences = _metrics_table("Paired difference from the null control, with 95 % intervals", shown)
    several_classes = "acsa" in document["rows"][0]
    for row in document["rows"]:
        if row["kind"] != "control":
            compared = {m: row["minus_control"][m] for m in shown}
            cells = [f"{d[0]:+.3f}\n{_interval(d[1:], '{:+.3f}')}" for d in compared.values()]
            differences.add_row(row["name"], *cells, style=_style(row))
    console.print(differences)
    if several_classes:
        print_class_recalls(document["rows"])
    for sentence in sentences:
        note(sentence)


def print_values(title: str, rows: list[dict[str, Any]], first: str | None = None) -> None:
    """Print the metrics of the table's rows, each above its interval.

    Args:
        title: of the table.
        rows: as of :func:`measure`.
        first: the metric that stands first; narrow terminals show the first ones only.
    """
    shown = _shown_metrics(rows, first)
    values = _metrics_table(title, shown)
    for row in rows:
        cells = [f"{row[m]:.3f}\n{_interval(row['intervals'][m], '{:.3f}')}" for m in shown]
        values.add_row(row["name"], *cells, style=_style(row))
    console.print(values)


def _shown_metrics(rows: list[dict[str, Any]], first: str | None = None) -> dict[str, str]:
    """Metric → heading, as many as fit; those that the rows have."""
    width = max(_NAME_WIDTH, *(len(row["name"]) + _NAME_MARGIN for row in rows))
    n_shown = max(_LEAST_SHOWN, (console.width - width) // _CELL_WIDTH)
    headings = SHOWN if "acsa" in rows[0] else _SHOWN
    order = sorted(headings, key=lambda metric: metric != first)
    known = [metric for metric in order if metric in rows[0]["intervals"]]
    return {metric: headings[metric] for metric in known[:n_shown]}


def _metrics_table(title: str, shown: dict[str, str]) -> Table:
    table = Table(title=title, padding=(0, 1))
    table.add_column("name", no_wrap=True)
    for heading in shown.values():
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _style(row: dict[str, Any]) -> str | None:
    return "bold" if row["kind"] == "ensemble" else None


def _interval(bounds: list[float], form: str) -> str:
    """``.991-.998``; the leading zero is left out so that five columns fit 80 characters."""
    low, high = (form.format(bound).replace("0.", ".", 1) for bound in bounds)
    return f"{low} {high}"
