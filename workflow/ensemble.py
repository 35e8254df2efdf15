"""``ensemble``: stack what the folds held out, calibrate, set the threshold, measure, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from contracts.files import atomic_writer, digest_of, read_json, sha256_of_file, write_json
from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from ensemble.pipeline import fit_all
from evaluation.comparison import Predictions, compare
from workflow.config import RunConfig, RunOptions, resolve_config
from workflow.console import console, note
from workflow.facts import deployment_prior
from workflow.multiclass import SHOWN, measure_multiclass, print_class_recalls, probability_columns
from workflow.prepare import load_prepared
from workflow.registry import CONTROL, entry_of
from workflow.score_tables import collapsed_members, finished_results, score_tables, write_score_table
from workflow.units import Unit, units_of

CONTROL_ROW = "null_control"
ENSEMBLE_ROW = "ensemble"
# Raised when the fitting or the measuring changes, so that finished ensembles are fitted anew.
_ENSEMBLE_VERSION = 1


def ensemble(options: RunOptions) -> dict[str, Any]:
    """Fit, measure and export the ensemble of a trained run; a finished one is only shown.

    Returns:
        ``{dataset, recipe, model, threshold, prior, rows}``, the JSON document of ``ensemble --json``.

    Raises:
        UsageError, DataError, ModelError: with one sentence each.
    """
    from workflow.export import export_model

    config = resolve_config(options)
    data = load_prepared(config)
    units = units_of(config, data, config.members)
    results = finished_results(config, units)
    left_out = collapsed_members(results)
    for name, reason in left_out.items():
        note(f"{name} is left out: {reason}")
    key = ensemble_key(config, units)
    finished = _finished(config, key)
    if finished is not None:
        note(f"Nothing to do: {finished['model']} is fitted and exported.")
        _print_rows(finished, read_json(config.folder / "ensemble.json")["sentences"])
        return finished

    oof, test = score_tables(data, results, left_out)
    oof.require_complete()
    test.require_complete()
    prior = deployment_prior(config, data)
    with console.status("stacking and calibrating", spinner="dots"):
        fitted = fit_all(
            oof, deployment_prior=prior, threshold_rule=config.recipe.threshold, seed=config.seed
        )
    stack = fitted[ENSEMBLE_ROW]
    with console.status("measuring on held-out rows", spinner="dots"):
        rows = measure(config, fitted, test)
    for row in rows:
        # Of use only with a correction for many comparisons, which is compare's business.
        row.pop("p_values")
    document = {
        "dataset": config.spec.name,
        "recipe": config.recipe.name,
        "model": str(config.folder / "model.onnx"),
        "threshold": stack.threshold,
        "prior": stack.deployment_prior,
        "rows": rows,
    }
    write_score_table(config.folder / "oof.parquet", oof)
    decision = np.array(test.class_names)[stack.decide(test.scores)]
    write_score_table(
        config.folder / "heldout.parquet", test, {**probability_columns(stack, test), "decision": decision}
    )
    write_json(config.folder / "ensemble.json", stack.to_json())
    _write_metrics_parquet(config.folder / "metrics.parquet", rows)
    write_json(config.folder / "metrics.json", {"key": key, "model_sha256": "", "document": document})
    _print_rows(document, stack.sentences)
    exported = export_model(config, data, results, stack, test, rows)
    # Written last: from now on the run counts as finished.
    write_json(
        config.folder / "metrics.json", {"key": key, "model_sha256": exported["sha256"], "document": document}
    )
    return document


def ensemble_key(config: RunConfig, units: list[Unit]) -> str:
    """Digest of everything that the ensemble depends on."""
    return digest_of(
        [
            _ENSEMBLE_VERSION,
            [unit.key for unit in units],
            config.recipe.threshold,
            config.recipe.bootstrap,
            config.spec.deployment_shares or config.spec.deployment_prior,
            config.seed,
        ]
    )


def _finished(config: RunConfig, key: str) -> dict[str, Any] | None:
    """The document of an ensemble that is fitted, measured and exported, or None."""
    path, model = config.folder / "metrics.json", config.folder / "model.onnx"
    if not path.exists() or not model.exists():
        return None
    saved = read_json(path)
    if saved["key"] != key or saved["model_sha256"] != sha256_of_file(model):
        return None
    document: dict[str, Any] = saved["document"]
    return document


def measure(config: RunConfig, fitted: dict[str, FittedEnsemble], test: ScoreTable) -> list[dict[str, Any]]:
    """The table's rows: control first, then members, baselines and the ensemble."""
    types = {plan.name: plan.type for plan in config.members}
    models = {CONTROL_ROW: ("control", fitted[CONTROL])}
    for name, pipeline in fitted.items():
        if name in types:
            kind: str = entry_of(types[name]).kind
        else:
            kind = "ensemble" if name == ENSEMBLE_ROW else "baseline"
        models[name] = (kind, pipeline)
    if len(test.class_names) > 2:
        return measure_multiclass(
            models, test, CONTROL_ROW, seed=config.seed, n_replicates=config.recipe.bootstrap
        )
    predictions = {
        name: Predictions(kind, pipeline.p_minority(test.scores), pipeline.binary_threshold)
        for name, (kind, pipeline) in models.items()
    }
    minority = (test.labels == len(test.class_names) - 1).astype(np.int64)
    return compare(
        minority,
        test.groups,
        predictions,
        CONTROL_ROW,
        seed=config.seed,
        n_replicates=config.recipe.bootstrap,
    )


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
_NAME_WIDTH, _CELL_WIDTH, _LEAST_SHOWN = 18, 14, 3


def _print_rows(document: dict[str, Any], sentences: Any) -> None:
    """Print values with intervals, then differences from the control, as wide as the terminal allows."""
    n_shown = max(_LEAST_SHOWN, (console.width - _NAME_WIDTH) // _CELL_WIDTH)
    several_classes = "acsa" in document["rows"][0]
    shown = dict(list((SHOWN if several_classes else _SHOWN).items())[:n_shown])
    values = Table(title=f"{document['dataset']}: held-out rows, with 95 % intervals", padding=(0, 1))
    differences = Table(title="Paired difference from the null control, with 95 % intervals", padding=(0, 1))
    for table in (values, differences):
        table.add_column("name", no_wrap=True)
        for heading in shown.values():
            table.add_column(heading, justify="right", no_wrap=True)
    for row in document["rows"]:
        style = "bold" if row["kind"] == "ensemble" else None
        cells = [f"{row[m]:.3f}\n{_interval(row['intervals'][m], '{:.3f}')}" for m in shown]
        values.add_row(row["name"], *cells, style=style)
        if row["kind"] != "control":
            compared = {m: row["minus_control"][m] for m in shown}
            cells = [f"{d[0]:+.3f}\n{_interval(d[1:], '{:+.3f}')}" for d in compared.values()]
            differences.add_row(row["name"], *cells, style=style)
    console.print(values)
    console.print(differences)
    if several_classes:
        print_class_recalls(document["rows"])
    for sentence in sentences:
        note(sentence)


def _interval(bounds: list[float], form: str) -> str:
    """``.991-.998``; the leading zero is left out so that five columns fit 80 characters."""
    low, high = (form.format(bound).replace("0.", ".", 1) for bound in bounds)
    return f"{low} {high}"
