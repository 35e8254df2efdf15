"""Fits that leave out one kind of the minority at a time, and the scores they give.

Members that learn from the minority are fitted once more on each fold, without the images of one kind; the
scores of one-class members, which saw no image of any kind, are those of their ordinary folds. See
:mod:`imagedata.kinds` for which fold leaves out which kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from contracts.files import digest_of
from contracts.rows import FloatArray
from contracts.scores import ScoreTable
from contracts.text import printable
from ensemble.unseen import UnseenKinds
from imagedata.kinds import FEWEST_IMAGES, FEWEST_KINDS, NOT_JUDGED, KindFolds, kinds_of
from workflow.run.clusters import FEWEST_IMAGES as FEWEST_CLUSTERED
from workflow.run.clusters import read_clusters
from workflow.run.fits import Fit, FitKeys, FitResult, can_learn
from workflow.run.prepared import PreparedData, group_numbers, seed_of
from workflow.settings.config import RunConfig
from workflow.settings.recipe import MemberPlan
from workflow.settings.registry import entry_of


@dataclass(frozen=True)
class Kinds:
    """Kinds of a run's minority, or the clusters that stand in for them.

    Attributes:
        of_path: path of a minority image → its kind; images of unknown kinds are not there.
        images: kind → number of training images, most first.
        are_named: False where they are clusters (:mod:`workflow.run.clusters`), of training images alone.
        folds: which fold leaves out which kind; None where none is left out.
        sentence: what is done, or why nothing is; empty where there is nothing to say.
    """

    of_path: Mapping[str, str]
    images: Mapping[str, int]
    are_named: bool
    folds: KindFolds | None
    sentence: str


def learns_kinds(plan: MemberPlan) -> bool:
    """Whether a member has to be fitted again without a kind: one-class members see none."""
    return entry_of(plan.type).kind != "oneclass"


def wants_clusters(config: RunConfig, data: PreparedData) -> bool:
    """Whether clusters stand in for kinds: none are named, and there are enough images, and it is cheap."""
    minority = data.manifest.class_names[-1]
    return (
        config.recipe.kinds == "auto"
        and data.targets is None
        and len(kinds_of(list(_named(data).values()))) < FEWEST_KINDS
        and sum(row.label == minority for row in data.train) >= FEWEST_CLUSTERED
        and not _slow_members(config)
    )


def kinds_of_run(config: RunConfig, data: PreparedData) -> Kinds:
    """Kinds of the minority, and what the recipe does with them."""
    of_path: Mapping[str, str] = _named(data)
    are_named = not wants_clusters(config, data)
    if not are_named:
        of_path = read_clusters(config, data)
    images = kinds_of([of_path.get(row.path, "") for row in data.train])
    if config.recipe.kinds == "off" or data.targets is not None or len(images) < FEWEST_KINDS:
        return Kinds(of_path, images, are_named, None, "")
    minority = printable(data.manifest.class_names[-1])
    what = "Kinds" if are_named else "Clusters (not named kinds)"
    are = f"{what} of {minority}: {', '.join(f'{printable(k)} ({n})' for k, n in images.items())}."
    slow = _slow_members(config)
    if slow and config.recipe.kinds == "auto":
        return Kinds(
            of_path,
            images,
            are_named,
            None,
            f"{are} What the model is worth on kinds it has never seen is not measured, because "
            f"{', '.join(slow)} would be trained once more on every fold: -o kinds=named does it.",
        )
    folds = KindFolds.make(
        np.array([of_path.get(row.path, "") for row in data.train]),
        data.fold_of_row,
        group_numbers(data.train),
        data.labels(data.train) == len(data.manifest.class_names) - 1,
    )
    if folds is None:
        why = f"{are} None is left out: it takes {FEWEST_KINDS} kinds of {FEWEST_IMAGES} images or more."
        return Kinds(of_path, images, are_named, None, why)
    many = f"the {len(folds.kinds)} largest are" if len(folds.kinds) < len(images) else "each is"
    never_seen = "kinds never seen" if are_named else "clusters never seen"
    return Kinds(
        of_path, images, are_named, folds, f"{are} To measure {never_seen}, {many} left out in turn."
    )


def _named(data: PreparedData) -> dict[str, str]:
    """Path of each minority image whose kind is known → the kind."""
    minority = data.manifest.class_names[-1]
    rows = [*data.train, *data.test, *data.added]
    return {row.path: row.subtype for row in rows if row.label == minority and row.subtype}


def _slow_members(config: RunConfig) -> list[str]:
    """Members that would take long to be fitted again without a kind."""
    return [plan.name for plan in config.members if learns_kinds(plan) and not plan.reads_cached_features]


def kind_fits_of(config: RunConfig, data: PreparedData, members: tuple[MemberPlan, ...]) -> list[Fit]:
    """The fits without a kind of the given members, fold by fold; none where no kind is left out."""
    folds = kinds_of_run(config, data).folds
    learning = tuple(plan for plan in members if learns_kinds(plan) and can_learn(plan, data))
    if folds is None or not learning:
        return []
    keys, train_digest = FitKeys(config, data, learning), data.train_digest
    fits = []
    for plan in learning:
        for fold in folds.folds:
            kind, seed = folds.left_out(fold), seed_of(config.seed, plan.name, fold, "without a kind")
            rows = digest_of(folds.learns(fold).tolist())
            key = keys.of(plan, train_digest, "", fold, seed, {"learns from": rows})
            path = config.folder / "members" / plan.name / "kinds" / f"fold-{fold}.npz"
            fits.append(Fit(plan, fold, seed, key, path, without=kind))
    return fits


def without_its_kind(config: RunConfig, data: PreparedData, fit: Fit) -> tuple[Fit, npt.NDArray[np.int64]]:
    """A fit without a kind in the form of an ordinary one, which leaves out and scores one of two folds.

    Returns:
        The fit, and ``[N]`` folds: what it learns from, and all else.
    """
    folds = kinds_of_run(config, data).folds
    assert folds is not None  # there would be no such fit
    return replace(fit, fold=1), np.where(folds.learns(fit.fold), 0, 1).astype(np.int64)


def scores_without_kinds(oof: ScoreTable, folds: KindFolds, results: Mapping[Fit, FitResult]) -> ScoreTable:
    """The rows that are judged without their kind, with scores by members that never saw it.

    Args:
        oof: ordinary out-of-fold scores of the first repeat; its first N rows are the training rows.
        folds: of the N training rows.
        results: of the fits without a kind, none of them collapsed.

    Returns:
        The table, whose ``fold_of_row`` is the fold that judges a row.
    """
    n_rows = len(folds.judged_in)
    scores: FloatArray = np.array(oof.scores[:n_rows])
    for fit, result in results.items():
        columns = [i for i, column in enumerate(oof.columns) if column.member == fit.member.name]
        asked = np.flatnonzero(~folds.learns(fit.fold))
        judged = folds.judged_in[asked] == fit.fold
        scores[np.ix_(asked[judged], columns)] = result.scores[judged]
    of_folds = np.isin(folds.judged_in, folds.folds)
    table = replace(
        oof,
        row_ids=oof.row_ids[:n_rows],
        labels=oof.labels[:n_rows],
        groups=oof.groups[:n_rows],
        fold_of_row=np.where(of_folds, folds.judged_in, NOT_JUDGED),
        scores=scores,
    )
    return table.rows(of_folds)


def unseen_kinds(oof: ScoreTable, folds: KindFolds, results: Mapping[Fit, FitResult]) -> UnseenKinds:
    """What the gate asks on kinds never seen; arguments as of :func:`scores_without_kinds`.

    Feedback images follow the training rows in the table; nothing is fitted on them here.
    """
    ids = oof.row_ids[: len(folds.judged_in)]
    return UnseenKinds(
        scores_without_kinds(oof, folds, results),
        {fold: ids[folds.learns(fold)] for fold in folds.folds},
        {fold: folds.left_out(fold) for fold in folds.folds},
    )
