"""Which of a run's own images to look at first: kept beside the ensemble, listed, and shown by the report.

Without labels these are the images that look most anomalous, out of fold. With labels but without a test set
they are images of other classes that look most like the minority: wrong labels are among them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.markup import escape
from rich.table import Table

from contracts.files import atomic_writer
from contracts.scores import ScoreTable
from contracts.text import printable
from ensemble.fitted import FittedEnsemble
from evaluation.first_look import FIRST, first_look
from imagedata.audit.families import near_copy_families
from reporting.terminal import console, note
from workflow.run.features import pooled_features
from workflow.run.state import Run

_CANDIDATES = 10 * FIRST
"""Images of the highest scores among which a choice is made; copies are sought among them alone."""

_LISTED = 5


@dataclass(frozen=True)
class Candidate:
    """An image to look at.

    Attributes:
        rank: from 1.
        path: as in the manifest.
        score: the ensemble's fused score out of fold, higher = more like the minority.
        p_normal: share of normal images that look at least as odd.
        probability: of the minority; None without labels.
        family_size: near copies that it stands for, itself among them, of those that were looked at.
        nearest: path of the image before it in this list that it resembles most; None for the first one.
        similarity: cosine to that image's features, seen from the median; 0 for the first one.
    """

    rank: int
    path: str
    score: float
    p_normal: float
    probability: float | None
    family_size: int
    nearest: str | None
    similarity: float


_COLUMNS: dict[str, pa.DataType] = {
    "rank": pa.int64(),
    "path": pa.string(),
    "score": pa.float64(),
    "p_normal": pa.float64(),
    "probability": pa.float64(),
    "family_size": pa.int64(),
    "nearest": pa.string(),
    "similarity": pa.float64(),
}
"""Stated, because a column that is null throughout has no type of its own."""


def choose_first_look(run: Run, fitted: FittedEnsemble, table: ScoreTable) -> list[Candidate]:
    """Choose the images, the first one to look at first.

    Args:
        run: of which these are the training rows.
        fitted: judges them without having been fitted on their labels.
        table: ``[N]`` their out-of-fold scores.

    Raises:
        DataError: an image whose features are not in store is gone.
    """
    # The minority's own images need no second look.
    worth = np.flatnonzero(table.labels < len(table.class_names) - 1)
    scores = _scores(fitted, table)
    ranked = worth[np.argsort(-scores[worth], kind="stable")]
    worth = ranked[:_CANDIDATES]
    # From the whole ranking, of which usual images are most; of the highest scores they may not be.
    usual = ranked[:: max(1, len(ranked) // _CANDIDATES)]
    rows = [*run.data.train, *run.data.added]
    candidates = [rows[i] for i in worth]
    with console.status("choosing what to look at first", spinner="dots"):
        families = near_copy_families([run.data.file_of(row) for row in candidates], run.config.decode.window)
        features = pooled_features(run.config, run.data, [*candidates, *(rows[i] for i in usual)])
        vectors, of_usual = features[: len(worth)], features[len(worth) :]
        chosen = first_look(scores[worth], vectors, of_usual, families)
    p_normal = fitted.p_normal(table.scores)
    probability = fitted.minority_probability(table.scores) if fitted.has_probability else None
    return [
        Candidate(
            rank=rank,
            path=candidates[place].path,
            score=float(scores[worth[place]]),
            p_normal=float(p_normal[worth[place]]),
            probability=None if probability is None else float(probability[worth[place]]),
            family_size=size,
            nearest=candidates[nearest].path if nearest >= 0 else None,
            similarity=similarity,
        )
        for rank, (place, size, nearest, similarity) in enumerate(
            zip(
                chosen.positions.tolist(),
                chosen.family_sizes.tolist(),
                chosen.nearest.tolist(),
                chosen.similarities.tolist(),
                strict=True,
            ),
            1,
        )
    ]


def keep_first_look(run: Run, fitted: FittedEnsemble, table: ScoreTable) -> Path:
    """Choose as :func:`choose_first_look`, write ``first_look.parquet`` and return its place."""
    found = [asdict(each) for each in choose_first_look(run, fitted, table)]
    with atomic_writer(run.first_look) as handle:
        pq.write_table(pa.Table.from_pylist(found, schema=pa.schema(_COLUMNS)), handle, compression="zstd")
    return run.first_look


def read_first_look(run: Run) -> list[Candidate]:
    """What :func:`keep_first_look` wrote, the first one first."""
    return [Candidate(**row) for row in pq.read_table(run.first_look).to_pylist()]


def print_first_look(run: Run) -> None:
    """List the first few on the terminal, and say where all of them are."""
    found = read_first_look(run)
    names = run.data.manifest.class_names
    labelled = run.data.regime == "labelled"
    title = f"Worth a look: not labelled {names[-1]}, but most like it" if labelled else "Look at these first"
    table = Table(title=escape(printable(title)))
    table.add_column("", justify="right")
    table.add_column("image", overflow="fold")
    for heading in ("score", "p_normal", "near copies"):
        table.add_column(heading, justify="right")
    for each in found[:_LISTED]:
        table.add_row(
            str(each.rank),
            escape(printable(each.path)),
            f"{each.score:.3g}",
            f"{each.p_normal:.3g}",
            str(each.family_size - 1),
        )
    console.print(table)
    note(f"All {len(found)}: {run.first_look}. With pictures: {run.config.options.command('report')}")


def _scores(fitted: FittedEnsemble, table: ScoreTable) -> npt.NDArray[np.float64]:
    """``[N]`` what images are ranked by."""
    if not fitted.has_probability:
        return fitted.fused_scores(table.scores)
    p = np.clip(fitted.minority_probability(table.scores), 1e-12, 1.0 - 1e-12)
    return np.asarray(np.log(p) - np.log1p(-p), dtype=np.float64)
