"""Problems with flipped labels: the product's members fitted on them, their scores kept as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.few_labels.draws import Draw, draw_of
from benchmarks.few_labels.fits import FewLabels
from benchmarks.few_labels.sets import LabelledSet, SetPlan, load_set
from benchmarks.few_labels.tables import scores_on
from contracts.rows import FloatArray, IndexArray, MaskArray
from contracts.scores import ScoreTable
from workflow.run.copies.views import views_to_fit
from workflow.run.features import load_backbones

MOST_MINORITY = 90
"""Training images of the minority; of the majority there are 300, as in all benchmarks of few labels."""


@dataclass(frozen=True)
class Flipped:
    """Training rows of which some carry the wrong label.

    Attributes:
        data_set: name of the set.
        draw: seed of the draw.
        share: of the labels that were flipped.
        oof: N out-of-fold scores, with the labels that training saw.
        vectors: ``[N, D]`` pooled features.
        is_wrong: ``[N]`` whether the label was flipped.
    """

    data_set: str
    draw: int
    share: float
    oof: ScoreTable
    vectors: FloatArray
    is_wrong: MaskArray


def make_flipped(
    plans: Sequence[SetPlan],
    data: Path | None,
    cache: Path,
    shares: Sequence[float],
    draws: int,
    members: Sequence[str],
) -> Iterator[Flipped]:
    """Flip labels, fit the members, and give their out-of-fold scores; goes on where a call stopped.

    Args:
        plans: which sets.
        data: directory that holds the data sets.
        cache: for features, fits and tables.
        shares: of the labels to flip; the labels of a smaller share are among those of a larger.
        draws: of each set.
        members: member types.
    """
    sets = [found for plan in plans if (found := load_set(plan, data, cache, members)) is not None]
    for seed in range(draws):
        for of in sets:
            yield from _flipped_of(of, seed, cache, shares)


def _flipped_of(of: LabelledSet, seed: int, cache: Path, shares: Sequence[float]) -> Iterator[Flipped]:
    draw = draw_of(of.labels, of.groups, MOST_MINORITY, seed)
    train = np.concatenate([draw.majority, draw.candidates])
    # One order for all shares, so that more flips are the same flips and others.
    order = np.random.default_rng([seed, 20]).permutation(train)
    [loaded] = load_backbones(of.config, {plan.backbone for plan in of.config.members}).values()
    for share in shares:
        flipped = order[: round(share * len(train))]
        problem = _problem(of, draw, train, flipped)
        views = views_to_fit(problem.prepared, problem.config.members)
        rows = [problem.of.rows[i] for i in (*problem.train, *draw.test)]
        loaded.fill(problem.prepared, rows, of.config.decode, "cpu", views.pairs)
        scored = scores_on(problem, loaded, cache)
        yield Flipped(
            of.name,
            seed,
            share,
            scored.oof,
            loaded.rows(problem.prepared, rows[: len(train)], of.config.decode).pooled(),
            np.isin(problem.train, flipped),
        )


def _problem(of: LabelledSet, draw: Draw, train: IndexArray, flipped: IndexArray) -> FewLabels:
    """The problem as training sees it: a flipped image of the majority is one of the minority there."""
    labels = of.labels.copy()
    labels[flipped] = 1 - labels[flipped]
    names = of.manifest.class_names
    rows = tuple(
        replace(row, label=names[label]) for row, label in zip(of.rows, labels.tolist(), strict=True)
    )
    seen = replace(of, rows=rows, labels=labels)
    mine = np.sort(train)
    candidates = mine[labels[mine] == 1]
    as_seen = Draw(draw.seed, mine[labels[mine] == 0], candidates, draw.test[:1])
    return FewLabels.make(seen, as_seen, len(candidates))
