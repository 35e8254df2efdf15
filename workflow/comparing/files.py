"""A comparison as files: figures as Parquet or CSV, and the test probabilities behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from contracts.files import atomic_writer
from contracts.scores import ScoreTable
from ensemble.fitted import Threshold
from evaluation.comparison import Predictions


def figures_table(document: dict[str, Any]) -> pa.Table:
    """One row per technique and metric.

    Returns:
        ``name``, ``kind``, ``metric``, ``value`` with ``low`` and ``high``, ``minus_baseline`` with its low
        and high, ``p_value`` of that difference, and, for the metric of the verdicts alone, ``adjusted_p``
        and ``verdict``; null for the baseline.
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
    repeats: Sequence[Mapping[str, Predictions]],
    thresholds: Mapping[str, list[Threshold]],
) -> None:
    """Write the probabilities of every technique for the test rows.

    Columns are ``repeat`` (from 0), ``path``, ``label``, ``group`` and ``p_<technique>``, the probability of
    the minority, or ``p_<technique>_<class>`` for K > 2 classes; one row per repeat and image. The schema's
    metadata has the thresholds, one per repeat.

    Args:
        path: target.
        test: test rows, the same in every repeat.
        repeats: technique → its predictions, one mapping per repeat.
        thresholds: technique → its decision threshold in each repeat.
    """
    n_rows, n_repeats = len(test.row_ids), len(repeats)
    columns: dict[str, object] = {
        "repeat": np.repeat(np.arange(n_repeats), n_rows),
        "path": test.row_ids.tolist() * n_repeats,
        "label": [test.class_names[label] for label in test.labels] * n_repeats,
        "group": np.tile(test.groups, n_repeats),
    }
    for name in repeats[0]:
        of_repeats = [of_repeat[name] for of_repeat in repeats]
        p = np.concatenate([each.p for each in of_repeats]).astype(np.float64)
        if len(test.class_names) == 2:
            columns[f"p_{name}"] = p[:, 1]
        else:
            columns |= {f"p_{name}_{label}": p[:, k] for k, label in enumerate(test.class_names)}
    meta = {
        "manifest_digest": test.manifest_digest,
        "class_names": json.dumps(test.class_names),
        "thresholds": json.dumps(thresholds),
    }
    with atomic_writer(path) as handle:
        pq.write_table(pa.table(columns).replace_schema_metadata(meta), handle, compression="zstd")
