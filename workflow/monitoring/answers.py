"""Answered images: a table with a column of true labels, and the probability that was said of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from contracts.errors import DataError, UsageError
from export.scoring.watch.calibration import LEAST_ANSWERS, CalibrationWatch, watch_calibration
from workflow.monitoring.batches import Batch


def watch_answers(file: Path, batches: Sequence[Batch]) -> CalibrationWatch:
    """Run the CUSUM over answered images, in the order of the table.

    Args:
        file: CSV or parquet with ``label``, and ``probability`` or ``path``, by which the probability is
            found in the scores; rows without a label are passed over.
        batches: the scores.

    Raises:
        UsageError: no such file, or columns are missing.
        DataError: labels that are no class, paths that are in no folder, or too few answers.
    """
    rows = _read(file)
    if "label" not in rows.column_names:
        raise UsageError(
            f"--answers {file}: there is no column 'label'. It has {', '.join(rows.column_names)}."
        )
    answered = [row for row in rows.to_pylist() if row["label"] not in {None, ""}]
    reference = batches[0].reference
    strange = {str(row["label"]) for row in answered} - {reference.normal, reference.minority}
    if strange:
        raise DataError(
            f"--answers {file}: label '{min(strange)}' is no class of the model. Its classes are "
            f"{reference.normal} and {reference.minority}."
        )
    if "probability" not in rows.column_names:
        answered = _with_probability(file, answered, batches)
    answered = [row for row in answered if row["probability"] is not None]
    if len(answered) < LEAST_ANSWERS:
        raise DataError(
            f"--answers {file}: {len(answered)} answered images with a probability; "
            f"{LEAST_ANSWERS} are needed."
        )
    p = np.array([float(row["probability"]) for row in answered])
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise DataError(f"--answers {file}: a probability lies outside of 0 to 1.")
    return watch_calibration(p, np.array([str(row["label"]) == reference.minority for row in answered]))


def _read(file: Path) -> pa.Table:
    if not file.is_file():
        raise UsageError(f"--answers {file}: there is no such file.")
    try:
        return pq.read_table(file) if file.suffix == ".parquet" else pa_csv.read_csv(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"--answers {file}: neither CSV nor parquet ({error}).") from error


def _with_probability(
    file: Path, answered: list[dict[str, Any]], batches: Sequence[Batch]
) -> list[dict[str, Any]]:
    """Rows with what was said of their paths."""
    if answered and "path" not in answered[0]:
        raise UsageError(f"--answers {file}: there is neither a column 'probability' nor 'path'.")
    said: dict[str, float | None] = {}
    for batch in batches:
        for part in sorted(batch.folder.glob("part-*.parquet")):
            columns = pq.ParquetFile(part).read(["path", "probability"]).to_pydict()
            said |= zip(columns["path"], columns["probability"], strict=True)
    unknown = [str(row["path"]) for row in answered if str(row["path"]) not in said]
    if unknown:
        raise DataError(
            f"--answers {file}: {len(unknown):,} of {len(answered):,} paths are in no folder of scores, "
            f"such as {unknown[0]}. Write paths as the scores have them."
        )
    return [{**row, "probability": said[str(row["path"])]} for row in answered]
