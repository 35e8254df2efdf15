"""A comparison as files: figures as parquet or CSV, test probabilities, and a page of Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from contracts.files import atomic_writer
from contracts.scores import ScoreTable
from ensemble.fitted import Threshold
from evaluation.comparison import Predictions
from evaluation.metrics import METRICS
from evaluation.multiclass import MULTICLASS_METRICS
from evaluation.multiclass_comparison import MulticlassPredictions

_HEADINGS = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "hter": "HTER",
    "f1": "F1",
    "g_mean": "G-mean",
    "acsa": "ACSA",
    "g_mean_product": "G-mean, product",
    "g_mean_macro": "G-mean, macro",
    "macro_f1": "macro F1",
    "macro_auroc": "macro AUROC",
    "macro_average_precision": "macro average precision",
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "brier": "Brier",
    "ece": "ECE",
}
"""Metric → heading of the page, in the order of its columns; a metric that a comparison lacks has none."""


def sort_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of ``comparison.json``, best first by the metric that verdicts are about."""
    metric = document["metric"]
    rows: list[dict[str, Any]] = document["rows"]
    known = MULTICLASS_METRICS if metric in MULTICLASS_METRICS and "acsa" in rows[0] else METRICS
    return sorted(rows, key=lambda row: row[metric], reverse=known[metric].higher_is_better)


def figures_table(document: dict[str, Any]) -> pa.Table:
    """A row a technique and metric.

    Returns:
        ``name``, ``kind``, ``metric``, ``value`` with ``low`` and ``high``, ``minus_baseline`` with its low
        and high, ``p_value`` of that difference, and, for the metric of the verdicts alone, ``adjusted_p``
        and ``verdict``; the baseline's are null.
    """
    flat = []
    for row in document["rows"]:
        for metric, (low, high) in row["intervals"].items():
            judged = metric == document["metric"]
            difference = row["minus_baseline"][metric]
            flat.append(
                {
                    "name": row["name"],
                    "kind": row["kind"],
                    "metric": metric,
                    "value": row[metric],
                    "low": low,
                    "high": high,
                    "minus_baseline": difference[0],
                    "minus_baseline_low": difference[1],
                    "minus_baseline_high": difference[2],
                    "p_value": row["p_values"][metric],
                    "adjusted_p": row["adjusted_p"] if judged else None,
                    "verdict": row["verdict"] if judged else None,
                }
            )
    return pa.Table.from_pylist(flat)


def write_figures(path: Path, figures: pa.Table) -> None:
    """Write :func:`figures_table` as parquet, or as CSV to any name that does not end in ``.parquet``."""
    with atomic_writer(path) as handle:
        if path.suffix == ".parquet":
            pq.write_table(figures, handle, compression="zstd")
        else:
            pyarrow.csv.write_csv(figures, handle)


def write_test_list(
    path: Path,
    test: ScoreTable,
    predictions: Sequence[dict[str, Predictions] | dict[str, MulticlassPredictions]],
    thresholds: Mapping[str, list[Threshold]],
) -> None:
    """Write what every technique said of the test rows.

    Columns are ``repeat`` (from 0), ``path``, ``label``, ``group`` and ``p_<technique>``, the probability of
    the minority, or ``p_<technique>_<class>`` for K > 2 classes; a row a repeat and image. Thresholds, one a
    repeat, lie in the schema's metadata.

    Args:
        path: target.
        test: test rows, the same in every repeat.
        predictions: technique → its predictions, one mapping a repeat.
        thresholds: technique → its decision threshold in each repeat.
    """
    n_rows, n_repeats = len(test.row_ids), len(predictions)
    columns: dict[str, object] = {
        "repeat": np.repeat(np.arange(n_repeats), n_rows),
        "path": test.row_ids.tolist() * n_repeats,
        "label": [test.class_names[label] for label in test.labels] * n_repeats,
        "group": np.tile(test.groups, n_repeats),
    }
    for name in predictions[0]:
        of_repeats = [of_repeat[name] for of_repeat in predictions]
        p_NC = np.concatenate([_probabilities(each) for each in of_repeats])
        if p_NC.shape[1] == 1:
            columns[f"p_{name}"] = p_NC[:, 0]
        else:
            columns |= {f"p_{name}_{label}": p_NC[:, k] for k, label in enumerate(test.class_names)}
    meta = {
        "manifest_digest": test.manifest_digest,
        "class_names": json.dumps(test.class_names),
        "thresholds": json.dumps(thresholds),
    }
    with atomic_writer(path) as handle:
        pq.write_table(pa.table(columns).replace_schema_metadata(meta), handle, compression="zstd")


def _probabilities(predictions: Predictions | MulticlassPredictions) -> npt.NDArray[np.float64]:
    """``[N, 1]`` of the minority, or ``[N, K]``."""
    if isinstance(predictions, MulticlassPredictions):
        return np.asarray(predictions.p, dtype=np.float64)
    return np.asarray(predictions.p_minority, dtype=np.float64)[:, None]


def markdown_page(document: dict[str, Any], command: str, footnote: str) -> str:
    """All metrics with intervals, then the verdicts, with the command line that makes them."""
    rows = sort_rows(document)
    metric = document["metric"]
    shown = [m for m in _HEADINGS if m in rows[0]["intervals"]]
    values = [
        [row["name"], *(f"{row[m]:.3f} ({_range(row['intervals'][m], '.3f')})" for m in shown)]
        for row in rows
    ]
    verdicts = [
        [
            row["name"],
            f"{row[metric]:.3f}",
            "" if row["verdict"] is None else _difference(row["minus_baseline"][metric]),
            "" if row["verdict"] is None else f"{row['adjusted_p']:.3g}",
            row["verdict"] or "the baseline",
            "" if row["train_seconds"] is None else f"{row['train_seconds']:.1f}",
            "" if row["score_ms"] is None else f"{row['score_ms']:.2f}",
        ]
        for row in rows
    ]
    name = _HEADINGS.get(metric, metric.replace("_", " "))
    left_out = [f"- {member} is left out: {reason}" for member, reason in document["left_out"].items()]
    parts = [
        f"# {document['dataset']}, recipe {document['recipe']}",
        f"Made by `{command}`.",
        "## Test rows, with 95 % intervals",
        _table(["technique", *(_HEADINGS[m] for m in shown)], values),
        f"## {name[:1].upper()}{name[1:]} against the calibrated baseline",
        _table(
            ["technique", "value", "difference", "adjusted p", "verdict", "seconds", "ms/image"], verdicts
        ),
        footnote,
        *([worth["sentence"]] if (worth := document.get("worth_of_oneclass")) else []),
        *(["\n".join(left_out)] if left_out else []),
    ]
    return "\n\n".join(parts) + "\n"


def _difference(figures: Sequence[float]) -> str:
    return f"{figures[0]:+.3f} ({_range(figures[1:], '+.3f')})"


def _range(bounds: Sequence[float], form: str) -> str:
    return f"{bounds[0]:{form}} to {bounds[1]:{form}}"


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
