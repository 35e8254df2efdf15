"""Score tables of a run: assembled from the fits' results, kept as parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.files import atomic_writer
from contracts.rows import FloatArray
from contracts.scores import ScoreColumn, ScoreTable
from ensemble.fitted import FittedEnsemble
from imagedata.manifest_row import ManifestRow
from workflow.run.feedback import folds_of_feedback
from workflow.run.fits import FINAL, Fit, FitResult
from workflow.run.prepared import PreparedData, group_numbers
from workflow.settings.registry import entry_of


def score_tables(
    data: PreparedData,
    results: dict[Fit, FitResult],
    left_out: dict[str, str],
    repeats: Sequence[int] = (0,),
) -> tuple[ScoreTable, ScoreTable]:
    """The out-of-fold table of the training rows and the table of the test rows.

    Feedback images follow the training rows; see :mod:`workflow.run.feedback_scores`.

    Args:
        data: the rows.
        results: of all fits, with scores of the feedback images.
        left_out: members without columns.
        repeats: which repeats' scores; the mean over them where there are several. Each of the averaged
            scores of a training row is by a member that did not see the row, and so is their mean. The
            table's folds, which the stacker is cross-fitted on, are then those of the first one given.
    """
    names = [n for n in dict.fromkeys(fit.member.name for fit in results) if n not in left_out]
    columns: list[ScoreColumn] = []
    oof_parts: list[np.ndarray] = []
    test_parts: list[np.ndarray] = []
    for name in names:
        mine = {fit: result for fit, result in results.items() if fit.member.name == name}
        pairs = [_scores_of_repeat(data, mine, repeat) for repeat in repeats]
        oof_parts.append(_mean([oof for oof, _ in pairs]))
        test_parts.append(_mean([test for _, test in pairs]))
        columns.extend(_columns(next(iter(mine)), oof_parts[-1].shape[1], data.manifest.class_names))
    folds = data.of_repeat(repeats[0]).fold_of_row
    folds = np.concatenate([folds, folds_of_feedback(data.added, int(folds.max()) + 1)])
    return (
        _table(data, [*data.train, *data.added], folds, columns, np.concatenate(oof_parts, axis=1)),
        _table(data, data.test, np.full(len(data.test), -1), columns, np.concatenate(test_parts, axis=1)),
    )


def _scores_of_repeat(
    data: PreparedData, mine: dict[Fit, FitResult], repeat: int
) -> tuple[FloatArray, FloatArray]:
    """One member's ``[N, C]`` scores of rows it has not seen, and its ``[N_test, C]`` test scores."""
    of_repeat = {fit.fold: result for fit, result in mine.items() if fit.repeat == repeat}
    fold_of_row = data.of_repeat(repeat).fold_of_row
    width = next(iter(of_repeat.values())).scores.shape[1]
    # Without a test set, repeats after the first have no final fit.
    final = of_repeat.get(FINAL)
    test = np.empty((0, width), np.float32) if final is None or not data.test else final.scores
    added = None if final is None else final.added_scores
    # NaN, never 0: a row that no fold held out has no score, and the stacker refuses NaN.
    oof = np.full((len(data.train) + len(data.added), width), np.nan, dtype=np.float32)
    for fold, result in of_repeat.items():
        if fold != FINAL:
            oof[np.flatnonzero(fold_of_row == fold)] = result.scores
    if added is not None:
        oof[len(data.train) :] = added
    return oof, test


def _mean(scores: list[FloatArray]) -> FloatArray:
    """Element by element; a single one is passed through, to the bit."""
    if len(scores) == 1:
        return scores[0]
    # In double precision, so that the order of the repeats does not matter to the last digit that is kept.
    return np.asarray(np.mean(scores, axis=0, dtype=np.float64), dtype=np.float32)


def _columns(fit: Fit, width: int, class_names: tuple[str, ...]) -> list[ScoreColumn]:
    kind = entry_of(fit.member.type).kind
    meaning = "logit" if kind == "supervised" else "anomaly_score"
    names: list[str | None] = [None] if width == 1 else list(class_names)
    return [ScoreColumn(fit.member.name, kind, meaning, name) for name in names]  # type: ignore[arg-type]


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
    """Write a score table as parquet: path, label, fold, group, one column per score, and ``extra``."""
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


def probability_columns(fitted: FittedEnsemble, test: ScoreTable) -> dict[str, npt.NDArray[np.float64]]:
    """Columns of ``test.parquet``: ``probability`` for two classes, ``probability_<class>`` for more."""
    p = fitted.predict(test.scores)
    if p.ndim == 1:
        return {"probability": p}
    return {f"probability_{name}": p[:, k] for k, name in enumerate(test.class_names)}
