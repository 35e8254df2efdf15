"""Rows as CSV, for spreadsheets and people: all of them, or the review queue.

Files are UTF-8 with a header line; text is quoted and a null is empty. A path that a spreadsheet would take
for a formula begins with ``./``, which names the same file to the programs that read these files back.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from contracts.errors import UsageError
from contracts.files import atomic_writer
from export.scoring.output import REVIEW_NAME
from export.scoring.run import FinishedRun
from export.scoring.shard import columns_of, probability_columns, text_column, writing_failed
from export.scoring.summary import Row, parts


def check_csv_place(target: Path, output: Path) -> None:
    """Refuse a place for the CSV file that cannot be, before hours of scoring.

    Raises:
        UsageError: it is a folder, or lies among the part files, which are read as one table.
    """
    if target.is_dir():
        raise UsageError(f"--csv {target} is a folder. Name a file.")
    inside = target.parent.resolve() == output.resolve()
    # Readers of parquet data sets skip names that begin with _ or a dot.
    if inside and not target.name.startswith(("_", ".")):
        raise UsageError(
            f"--csv {target} lies among the part files, which are read as one table. "
            f"Name another folder, or {target.with_name('_' + target.name)}."
        )


def write_rows(run: FinishedRun, target: Path) -> None:
    """Write every row of the table, in the order of the plan, whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    try:
        with atomic_writer(target) as handle:
            writer = pa_csv.CSVWriter(handle, columns_of(run.model))
            for _, rows in parts(run):
                # The metadata of the schema is dropped, because it differs between parts and the CSV writer
                # wants one schema.
                writer.write_table(_without_formulas(rows).replace_schema_metadata(None))
            writer.close()
    except OSError as error:
        raise writing_failed(target.parent, error) from error


def no_formula(path: str) -> str:
    """The same file by a name that no spreadsheet runs: a formula begins with one of ``= + - @``.

    Spreadsheets pass over tabs and line ends before it. An absolute path needs nothing.
    """
    return f"./{path}" if path.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else path


def _without_formulas(rows: pa.Table) -> pa.Table:
    paths = [str(path) for path in rows["path"].to_pylist()]
    harmless = [no_formula(path) for path in paths]
    if harmless == paths:
        return rows
    return rows.set_column(rows.schema.get_field_index("path"), "path", text_column(harmless))


def write_review(run: FinishedRun, rows: Sequence[Row]) -> Path:
    """Write the review queue beside the parts.

    Columns: rank from 1; path; the probability of each column of the table, empty where the file gives none;
    p_normal; decision; ``log_odds``, how far the image is from another decision.

    Raises:
        DataError: it cannot be written.
    """
    header = ["rank", "path", *probability_columns(run.model), "p_normal", "decision", "log_odds"]
    lines = [
        [
            rank,
            no_formula(row.path),
            *(number_or_nothing(p) for p in (*row.probabilities, row.p_normal)),
            row.decision,
            f"{row.distance:.4g}",
        ]
        for rank, row in enumerate(rows, start=1)
    ]
    return write_lines(run.job.output / REVIEW_NAME, header, lines)


def number_or_nothing(value: float) -> str:
    """Six digits; empty for NaN, as null is in the files."""
    return "" if math.isnan(value) else f"{value:.6g}"


def write_lines(target: Path, header: Sequence[str], lines: Sequence[Sequence[object]]) -> Path:
    """Write a small CSV file; returns its path.

    Raises:
        DataError: it cannot be written.
    """
    # In memory first: review queues and indices are short.
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    try:
        with atomic_writer(target) as handle:
            handle.write(text.getvalue().encode("utf-8"))
    except OSError as error:
        raise writing_failed(target.parent, error) from error
    return target
