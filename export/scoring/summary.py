"""One pass over finished part files: counts, the review queue, the most probable images.

Parts are read one at a time, and what is kept is bounded by what was asked for, so that memory does not grow
with the number of images.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.triage import TRIAGE_NAMES
from export.scoring.plan import Override, Shard
from export.scoring.run import FinishedRun
from export.scoring.shard import probability_columns

_SMALLEST_P = 2.0**-24  # spacing of float32 below 1; closer to 0 or 1 log-odds would only show rounding
_REASONS_KEPT = 1000
OTHER_REASONS = "other reasons"
"""Stands for failures once there are too many different reasons to count each."""


class Row(NamedTuple):
    """A scored image that is picked out.

    Attributes:
        shard: that holds it.
        position: within the shard.
        path: as in the table.
        probabilities: one number for two classes, else one per class; NaN where the file gives none.
        p_normal: NaN where the file gives none.
        decision: name of the class.
        distance: log-odds between it and the nearest other decision, 0 or more; on p_normal where there is no
            probability.
    """

    shard: Shard
    position: int
    path: str
    probabilities: tuple[float, ...]
    p_normal: float
    decision: str
    distance: float


@dataclass
class ResultSummary:
    """What the pass found.

    Attributes:
        decisions: class name → images decided so, in the model's order.
        triage: PASS, FAIL, REVIEW and NOVEL → images; empty where the file has no triage.
        reasons: reason → failed images, most frequent first; digits in reasons read ``#``.
        review: most uncertain first.
        hottest: highest probability of the minority first; lowest p_normal where there is none, and of equal
            ones the highest mean of the members' scores.
    """

    decisions: dict[str, int]
    triage: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    review: list[Row] = field(default_factory=list)
    hottest: list[Row] = field(default_factory=list)


def parts(run: FinishedRun) -> Iterator[tuple[Shard, pa.Table]]:
    """Shards with their rows, in the order of the plan."""
    for shard in run.shards:
        # One file at a time: pyarrow.dataset would import pandas where it is installed, most of a second.
        with pq.ParquetFile(run.job.output / shard.file_name) as part:
            yield shard, part.read(use_threads=False)


def summarise(run: FinishedRun, review: int = 0, hottest: int = 0) -> ResultSummary:
    """Read every row once.

    Args:
        run: finished.
        review: length of the review queue.
        hottest: how many of the most probable images to pick.
    """
    columns, classes = probability_columns(run.model), run.model.classes
    by_probability = run.model.has_probability
    thresholds = thresholds_of(run)
    decisions: Counter[str] = Counter(dict.fromkeys(classes, 0))
    triage: Counter[str] = Counter(dict.fromkeys(TRIAGE_NAMES if run.model.has_triage else (), 0))
    reasons: Counter[str] = Counter()
    uncertain, probable = _Lowest(review), _Lowest(hottest)
    order = 0
    for shard, rows in parts(run):
        texts: list[list[Any]] = [rows[name].to_pylist() for name in ("path", "decision", "triage", "error")]
        paths, decided, triaged, errors = texts
        p = np.array([rows[name].to_pylist() for name in columns], dtype=np.float64).T  # null becomes NaN
        p_normal = np.array(rows["p_normal"].to_pylist(), dtype=np.float64)
        distances = distance_to_threshold(p if by_probability else p_normal[:, None], thresholds)
        suspicion = p[:, -1] if by_probability else _suspicion(run, rows, p_normal)
        for position, reason in enumerate(errors):
            order += 1
            if reason is not None:
                # Digits (sizes, offsets) differ from file to file; without them equal reasons count as one.
                kind = re.sub(r"\d[\d,.]*", "#", reason)
                reasons[kind if kind in reasons or len(reasons) < _REASONS_KEPT else OTHER_REASONS] += 1
                continue
            decisions[decided[position]] += 1
            if run.model.has_triage:
                triage[triaged[position]] += 1
            row = Row(
                shard,
                position,
                paths[position],
                tuple(p[position].tolist()),
                float(p_normal[position]),
                decided[position],
                float(distances[position]),
            )
            uncertain.offer(row.distance, order, row)
            probable.offer(-float(suspicion[position]), order, row)
    return ResultSummary(
        dict(decisions), dict(triage), dict(reasons.most_common()), uncertain.rows(), probable.rows()
    )


def _suspicion(
    run: FinishedRun, rows: pa.Table, p_normal: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """``[N]`` higher = more suspicious, without a probability: by p_normal, then by the mean score.

    Many images share the smallest p_normal, 1 / (n + 1), and some of these lie far further out than others.
    """
    names = [f"score_{member}" for member in run.model.members]
    scores = np.array([rows[name].to_pylist() for name in names], dtype=np.float64).mean(axis=0)
    # Squeezed into less than a step of p_normal, of which there are at most one a calibration image.
    return np.asarray(-p_normal + 1e-9 * np.arctan(scores))


def thresholds_of(run: FinishedRun) -> tuple[float, ...]:
    """The thresholds that decided: one for two classes, else one per class."""
    chosen: Override = run.job.threshold
    if chosen is None:
        value = run.model.document["threshold"]["value"]
        chosen = tuple(value) if isinstance(value, list) else float(value)
    return chosen if isinstance(chosen, tuple) else (chosen,)


def distance_to_threshold(
    probabilities: npt.NDArray[np.float64], thresholds: tuple[float, ...]
) -> npt.NDArray[np.float64]:
    """How far each image is from being decided otherwise, in log-odds; 0 is right at the threshold.

    Args:
        probabilities: ``[N, 1]`` of the minority, or ``[N, K]``; NaN gives NaN.
        thresholds: one, or K.

    Returns:
        ``[N]`` ``|logit p - logit t|``; for K classes by how much the largest ``log p_k - log t_k``, which is
        decided, exceeds the second.
    """
    p = np.clip(probabilities, _SMALLEST_P, 1.0 - _SMALLEST_P)
    t = np.clip(np.asarray(thresholds, dtype=np.float64), _SMALLEST_P, 1.0 - _SMALLEST_P)
    if p.shape[1] == 1:
        return np.asarray(np.abs(np.log(p / (1.0 - p)) - np.log(t / (1.0 - t)))[:, 0])
    leads = np.sort(np.log(p) - np.log(t), axis=1)
    return np.asarray(leads[:, -1] - leads[:, -2])


class _Lowest:
    """The rows of the ``count`` lowest keys of any number; of equal keys, the earlier."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._heap: list[tuple[float, int, Row]] = []

    def offer(self, key: float, order: int, row: Row) -> None:
        """Keep the row if it is among the lowest so far; ``order`` is another number each time."""
        # heapq keeps the smallest on top; negated, that is the one to be pushed out. The order decides before
        # rows, which cannot be compared.
        item = (-key, -order, row)
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, item)
        elif self._heap and item > self._heap[0]:
            heapq.heapreplace(self._heap, item)

    def rows(self) -> list[Row]:
        """Lowest first."""
        return [row for _, _, row in sorted(self._heap, reverse=True)]
