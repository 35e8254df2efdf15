"""Batches drawn from pools of real images, and what the watch says of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.watch.problems import Pool, Problem
from export.scoring.watch.batch import BatchCounts
from export.scoring.watch.reference import is_feature
from export.scoring.watch.verdict import watch_batch

SIZES = (50, 200)
USUAL, MOVED = 0.05, (0.005, 0.3)
"""Share of the minority that batches usually have, and where it moves to."""

STRANGE = (0.1, 0.3)
"""Shares of a batch that are of a kind never trained."""


@dataclass(frozen=True)
class Found:
    """What the watch said of simulated batches of one make.

    Attributes:
        data_set: name.
        what: was done.
        images: per batch.
        share: of the minority.
        batches: number.
        alarms: batches with a drift alarm.
        abstained: batches without a figure for the share.
        covered: of those with a figure, batches whose interval holds ``share``.
        median: of the figures; None where there is none.
        width: median width of the intervals; None likewise.
        named: the quantity that most often changed most, of the batches with an alarm.
        by_features: batches in which a direction of the pooled features raised an alarm, by itself or beside
            other quantities.
    """

    data_set: str
    what: str
    images: int
    share: float
    batches: int
    alarms: int
    abstained: int
    covered: int
    median: float | None
    width: float | None
    named: str
    by_features: int

    def to_json(self) -> dict[str, Any]:
        """As a document."""
        return asdict(self)


def simulate(problem: Problem, batches: int, seed: int = 0) -> Iterator[Found]:
    """All kinds of batches of a problem.

    Each image of a batch is of the minority with the stated probability, and no image is in a batch twice.

    Args:
        problem: scored.
        batches: of each make.
        seed: of the draws.
    """
    for n in SIZES:
        for share in (USUAL, *MOVED):
            yield _found(problem, "unchanged", n, share, batches, problem.normal, problem.minority, seed)
    for n in SIZES:
        for what, (normal, minority) in problem.changed.items():
            yield _found(problem, what, n, USUAL, batches // 4, normal, minority, seed)
        for strange in STRANGE if problem.never_seen is not None else ():
            what = f"{strange:.0%} of a kind never trained"
            pools = (problem.normal, problem.minority)
            yield _found(problem, what, n, USUAL, batches // 4, *pools, seed, strange)


def _found(
    problem: Problem,
    what: str,
    n: int,
    share: float,
    batches: int,
    normal: Pool,
    minority: Pool,
    seed: int,
    strange: float = 0.0,
) -> Found:
    random = np.random.default_rng([seed, n, int(share * 1e4)])
    said = []
    for _ in range(batches):
        watch = watch_batch(problem.reference, _drawn(problem, random, n, share, normal, minority, strange))
        said.append(watch)
    figures = [each.share.figure for each in said if each.share.figure is not None]
    named = [each.changes[0].title for each in said if each.alarm]
    return Found(
        problem.name,
        what,
        n,
        share,
        batches,
        len(named),
        batches - len(figures),
        sum(figure.low <= share <= figure.high for figure in figures),
        float(np.median([figure.value for figure in figures])) if figures else None,
        float(np.median([figure.high - figure.low for figure in figures])) if figures else None,
        max(set(named), key=named.count) if named else "",
        sum(any(is_feature(change.name) for change in each.alarms) for each in said),
    )


def _drawn(
    problem: Problem,
    random: np.random.Generator,
    n: int,
    share: float,
    normal: Pool,
    minority: Pool,
    strange: float,
) -> BatchCounts:
    n_strange = int(random.binomial(n, strange)) if problem.never_seen is not None else 0
    n_minority = min(int(random.binomial(n - n_strange, share)), len(minority))
    parts = [(minority, n_minority), (normal, min(n - n_strange - n_minority, len(normal)))]
    if problem.never_seen is not None:
        parts.append((problem.never_seen, n_strange))
    return problem.counts(*((pool, random.choice(len(pool), k, replace=False)) for pool, k in parts))
