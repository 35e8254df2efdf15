"""Fits of the product's members on a problem, each cached as a whole or not at all.

One-class members depend on the majority's rows and folds alone, so they are fitted once for a draw and serve
every number of labels.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.few_labels.draws import Draw
from benchmarks.few_labels.sets import LabelledSet
from contracts.files import digest_of, read_arrays, write_arrays
from contracts.rows import FloatArray, IndexArray
from features.rows import CachedRows
from imagedata.folds import assign_folds
from workflow.run.copies.views import views_of
from workflow.run.features import BackboneWithStore, rows_of, rows_to_learn_from
from workflow.run.fits import FINAL, Fit, fits_of
from workflow.run.prepared import PreparedData
from workflow.settings.config import RunConfig
from workflow.settings.recipe import MemberPlan
from workflow.settings.registry import entry_of
from workflow.training.train import positions_to_fit, run_fit


@dataclass(frozen=True)
class MemberScores:
    """What a member gave on a problem.

    Attributes:
        out_of_fold: ``[n, C]`` of the training rows, majority first; NaN where a fold holds all that the
            member could have learnt the minority from.
        test: ``[n_test, C]``.
        collapsed: why the member must be left out; empty if it need not.
    """

    out_of_fold: FloatArray
    test: FloatArray
    collapsed: str


@dataclass(frozen=True)
class FewLabels:
    """A problem: a draw and a number of labels.

    Attributes:
        of: the set.
        draw: the draw.
        n_labels: minority images drawn to be trained on.
        fold_of_row: ``[n]`` fold of each training row.
        without: kind of the minority none of whose images is trained on; empty where all are.
    """

    of: LabelledSet
    draw: Draw
    n_labels: int
    fold_of_row: npt.NDArray[np.int64]
    without: str = ""

    @classmethod
    def make(cls, of: LabelledSet, draw: Draw, n_labels: int, without: str = "") -> FewLabels:
        """Assign folds by the product's rule.

        Raises:
            DataError: folds cannot be made.
        """
        train = np.concatenate([draw.majority, draw.candidates[_labelled(of, draw, n_labels, without)]])
        folds = assign_folds(
            labels=of.labels[train],
            groups=of.groups[train],
            class_names=of.manifest.class_names,
            n_folds=of.config.recipe.folds,
            seed=draw.seed,
            dataset=of.name,
        )
        return cls(of, draw, n_labels, folds, without)

    @property
    def labelled(self) -> IndexArray:
        """Positions among the draw's candidates that are trained on."""
        return _labelled(self.of, self.draw, self.n_labels, self.without)

    @property
    def train(self) -> IndexArray:
        """Positions of the training rows in the set, majority first."""
        return np.concatenate([self.draw.majority, self.draw.candidates[self.labelled]])

    @property
    def prepared(self) -> PreparedData:
        """The problem as the rows of a run."""
        rows = self.of.rows
        train = [rows[i] for i in self.train]
        return PreparedData(
            self.of.manifest,
            train,
            [rows[i] for i in self.draw.test],
            self.fold_of_row,
            views=views_of(self.config, train),
        )

    @property
    def config(self) -> RunConfig:
        """The run's configuration; the draw is its seed."""
        options = replace(self.of.config.options, seed=self.draw.seed)
        return replace(self.of.config, options=options)

    @property
    def name(self) -> str:
        """Of the problem, as a file is named."""
        without = f"-without-{self.without}" if self.without else ""
        return f"{self.of.name.replace(':', '-')}-d{self.draw.seed}-n{self.n_labels}{without}"


def _labelled(of: LabelledSet, draw: Draw, n_labels: int, without: str) -> IndexArray:
    drawn = [of.rows[i].subtype for i in draw.candidates[:n_labels]]
    return np.array([k for k, kind in enumerate(drawn) if not without or kind != without], dtype=np.int64)


def scores_of(
    problem: FewLabels, plan: MemberPlan, loaded: BackboneWithStore, folder: Path, tell: Callable[[str], None]
) -> MemberScores:
    """Fit a member on every fold and on all rows, or read what an earlier call left.

    Args:
        problem: the problem.
        plan: the member.
        loaded: the backbone's features, those of the problem's rows among them.
        folder: of the cached results.
        tell: receives what is fitted.
    """
    is_oneclass = entry_of(plan.type).kind == "oneclass"
    n_majority = len(problem.draw.majority)
    n_train = n_majority if is_oneclass else len(problem.train)
    # What the folds' fits of a one-class member score besides the rows they held out.
    also = problem.draw.candidates if is_oneclass else np.empty(0, dtype=np.int64)
    rows = problem.of.rows
    whole = problem.prepared
    data = replace(whole, train=whole.train[:n_train], fold_of_row=whole.fold_of_row[:n_train])
    fits = fits_of(problem.config, data, (plan,))
    facts = [[fit.key for fit in fits], [rows[i].sha256 for i in also]]
    path = folder / plan.name / f"{digest_of(facts)}.npz"
    found = _read(path)
    if found is None:
        tell(f"{problem.name}, {plan.name}")
        scored = np.concatenate([problem.train[:n_train], also])

        def rows_at(positions: IndexArray) -> CachedRows:
            return rows_of(loaded.store, data, [rows[i] for i in positions], problem.config.decode)

        train, sources = rows_to_learn_from(loaded.store, data, plan, problem.config.decode)
        learnt = _Learnt(train, data.fold_of_row, sources)
        found = _fit_all(fits, learnt, rows_at, scored, problem)
        write_arrays(path, {"folds": found.folds, "test": found.test}, {"collapsed": found.collapsed})
    # A row's own fold. What a one-class member also scored are all candidates, whatever is trained on.
    scored_at = np.arange(len(problem.train))
    if is_oneclass:
        scored_at[n_majority:] = n_majority + problem.labelled
    folds = found.folds[problem.fold_of_row, scored_at]
    return MemberScores(folds, found.test, found.collapsed)


@dataclass(frozen=True)
class _Fitted:
    """Scores by every fold's fit.

    Attributes:
        folds: ``[F, n, C]`` of the training rows and of those also scored; NaN for rows that a fit has seen.
        test: ``[n_test, C]`` by the final fit.
        collapsed: why the member must be left out, or empty.
    """

    folds: FloatArray
    test: FloatArray
    collapsed: str


def _read(path: Path) -> _Fitted | None:
    """A finished result, or None where it is missing or torn."""
    try:
        arrays, meta = read_arrays(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return _Fitted(arrays["folds"], arrays["test"], meta["collapsed"])


class _Learnt(NamedTuple):
    """What fits learn from.

    Attributes:
        rows: N training rows, and behind them M copies and views.
        fold_of_row: ``[N]``.
        source_of_copy: ``[M]`` position of each one's image among the N.
    """

    rows: CachedRows
    fold_of_row: npt.NDArray[np.int64]
    source_of_copy: IndexArray


def _fit_all(
    fits: list[Fit],
    learnt: _Learnt,
    rows_at: Callable[[IndexArray], CachedRows],
    scored: IndexArray,
    problem: FewLabels,
) -> _Fitted:
    """Fit on all folds and on all training rows, which are the first of the rows ``scored``."""
    test = problem.draw.test
    n_folds = int(problem.fold_of_row.max()) + 1
    folds = np.full((n_folds, len(scored), 1), np.nan, dtype=np.float32)
    final = np.full((len(test), 1), np.nan, dtype=np.float32)
    collapsed = ""
    for fit in fits:
        learns = np.flatnonzero(learnt.fold_of_row != fit.fold)
        asked = np.setdiff1d(np.arange(len(scored)), learns)
        positions = positions_to_fit(learnt.fold_of_row, learnt.source_of_copy, fit.fold)
        copies = positions[len(learns) :] - len(learnt.fold_of_row)
        # As the final fit of the rows outside the fold, so that it scores whatever rows it is asked for.
        result = run_fit(
            replace(fit, fold=FINAL),
            learnt.rows.subset(positions),
            rows_at(test if fit.fold == FINAL else scored[asked]),
            np.zeros(len(learns), dtype=np.int64),
            "cpu",
            np.searchsorted(learns, learnt.source_of_copy[copies]),
        )
        collapsed = collapsed or result.collapsed
        if fit.fold == FINAL:
            final = result.scores
        else:
            folds[fit.fold, asked] = result.scores
    return _Fitted(folds, final, collapsed)
