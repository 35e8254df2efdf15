"""Score tables of a run: assembled from the units' receipts, kept as parquet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import ModelError
from contracts.files import atomic_writer
from contracts.scores import ScoreColumn, ScoreTable
from imagedata.manifest import ManifestRow
from workflow.config import RunConfig
from workflow.prepare import PreparedData, group_numbers
from workflow.registry import CONTROL, entry_of
from workflow.units import FINAL, Unit, UnitResult, read_result


def finished_results(config: RunConfig, units: list[Unit]) -> dict[Unit, UnitResult]:
    """Results of all units.

    Raises:
        ModelError: some are missing; says which members and which command trains them.
    """
    results = {unit: read_result(unit) for unit in units}
    missing = list(dict.fromkeys(unit.member.name for unit, result in results.items() if result is None))
    if missing:
        everything = len(missing) == len(config.members)
        if everything or len(missing) > 1:
            command = config.options.command("train-all")
        else:
            command = config.options.command("train", missing[0])
        raise ModelError(
            f"{config.folder}: not trained yet, or with other settings: {', '.join(missing)}. Run: {command}"
        )
    return {unit: result for unit, result in results.items() if result is not None}


def collapsed_members(results: dict[Unit, UnitResult]) -> dict[str, str]:
    """Member → why it is left out, for members that collapsed on any fold.

    Raises:
        ModelError: the null control is among them.
    """
    reasons: dict[str, str] = {}
    for unit, result in results.items():
        if result.collapsed:
            reasons.setdefault(unit.member.name, f"{unit.label}: {result.collapsed}")
    if CONTROL in reasons:
        raise ModelError(f"the null control cannot be left out: {reasons[CONTROL]}")
    return reasons


def score_tables(
    data: PreparedData, results: dict[Unit, UnitResult], left_out: dict[str, str]
) -> tuple[ScoreTable, ScoreTable]:
    """The out-of-fold table of the training rows and the table of the held-out rows."""
    names = [n for n in dict.fromkeys(unit.member.name for unit in results) if n not in left_out]
    columns: list[ScoreColumn] = []
    oof_parts: list[np.ndarray] = []
    test_parts: list[np.ndarray] = []
    for name in names:
        mine = {unit: result for unit, result in results.items() if unit.member.name == name}
        final = next(result for unit, result in mine.items() if unit.fold == FINAL)
        width = final.scores.shape[1]
        oof = np.full((len(data.train), width), np.nan, dtype=np.float32)
        for unit, result in mine.items():
            if unit.fold != FINAL:
                oof[data.fold_of_row == unit.fold] = result.scores
        oof_parts.append(oof)
        test_parts.append(final.scores)
        columns.extend(_columns(next(iter(mine)), width, data.manifest.class_names))
    return (
        _table(data, data.train, data.fold_of_row, columns, np.concatenate(oof_parts, axis=1)),
        _table(data, data.test, np.full(len(data.test), -1), columns, np.concatenate(test_parts, axis=1)),
    )


def _columns(unit: Unit, width: int, class_names: tuple[str, ...]) -> list[ScoreColumn]:
    kind = entry_of(unit.member.type).kind
    meaning = "anomaly_score" if kind == "oneclass" else "logit"
    names: list[str | None] = [None] if width == 1 else list(class_names)
    return [ScoreColumn(unit.member.name, kind, meaning, name) for name in names]  # type: ignore[arg-type]


def _table(
    data: PreparedData,
    rows: list[ManifestRow],
    folds: np.ndarray,
    columns: list[ScoreColumn],
    scores: np.ndarray,
) -> ScoreTable:
    return ScoreTable(
        row_ids=np.array([row.path for row in rows]),
        labels=data.labels(rows),
        fold_of_row=np.asarray(folds, dtype=np.int64).copy(),
        groups=group_numbers(rows),
        columns=tuple(columns),
        scores=scores.astype(np.float32),
        class_names=data.manifest.class_names,
        manifest_digest=data.manifest.digest,
    )


def write_score_table(path: Path, table: ScoreTable, extra: dict[str, np.ndarray] | None = None) -> None:
    """Write a score table as parquet: path, label, fold, group, a column a score, and ``extra`` columns."""
    columns: dict[str, object] = {
        "path": table.row_ids.tolist(),
        "label": [table.class_names[label] for label in table.labels],
        "fold": table.fold_of_row,
        "group": table.groups,
    }
    columns.update({f"score_{column.name}": table.scores[:, i] for i, column in enumerate(table.columns)})
    columns.update(extra or {})
    meta = {"manifest_digest": table.manifest_digest, "class_names": json.dumps(table.class_names)}
    with atomic_writer(path) as handle:
        pq.write_table(pa.table(columns).replace_schema_metadata(meta), handle, compression="zstd")
