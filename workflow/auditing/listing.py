"""Which training images the audit lists, in which order, and what speaks against each label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from contracts.rows import FloatArray
from contracts.scores import ScoreTable
from ensemble.out_of_fold import judging_probabilities
from ensemble.stacking.training_scores import filled_scores
from evaluation.label_audit import Suspicions, neighbour_shares, suspicions_of
from imagedata.audit.corrections import Corrections
from imagedata.audit.families import near_copy_families
from imagedata.manifest_row import ManifestRow
from reporting.terminal import console
from workflow.run.features import pooled_features
from workflow.run.state import Run

FEWEST = 10
"""Images that are listed at least, where there are so many."""

Kind = Literal["hidden", "false_minority", "other"]
"""Of a possible mistake: a minority image hidden in another class; an image of another class among the
minority; or two other classes confused."""

KINDS: tuple[Kind, ...] = ("hidden", "false_minority", "other")
"""In the order of the list: each hidden image is one more of those that are rare."""


@dataclass(frozen=True)
class ListedLabel:
    """A training image whose label a person should look at.

    Attributes:
        rank: from 1.
        path: as in the manifest.
        sha256: of its bytes.
        label: that training saw.
        suggested: class that the models hold for right.
        kind: of the possible mistake.
        suspicion: how strongly the label is contradicted; only comparable within one list.
        contradicted: whether the label is contradicted on the whole, and not merely more than others.
        p_label: probability of the label, out of fold; None where no minority image is labelled.
        p_suggested: the same of the suggested class.
        p_normal: share of normal images that look at least as odd; None with labelled minority images, whose
            labels it was made with.
        members_against: members that prefer the suggested class; None without labels.
        neighbours_against: of the 10 most similar images of other groups, those of the suggested class.
        family: equal numbers for near copies of each other.
    """

    rank: int
    path: str
    sha256: str
    label: str
    suggested: str
    kind: Kind
    suspicion: float
    contradicted: bool
    p_label: float | None
    p_suggested: float | None
    p_normal: float | None
    members_against: int | None
    neighbours_against: int | None
    family: int


@dataclass(frozen=True)
class LabelList:
    """The list, and what stands beside it.

    Attributes:
        images: first to last.
        looked_at: training images whose labels were looked at.
        contradicted: of these, labels that are contradicted on the whole; None without labelled minority
            images.
        answered: training images that a person has answered for already, and that are not listed again.
        members: that were asked.
    """

    images: tuple[ListedLabel, ...]
    looked_at: int
    contradicted: int | None
    answered: int
    members: tuple[str, ...]


def list_labels(run: Run, share: float, answered: Corrections) -> LabelList:
    """List the labels that are contradicted most.

    Args:
        run: whose ensemble is fitted.
        share: of the training images that is listed, at least :data:`FEWEST`.
        answered: what people said before.

    Raises:
        DataError: an image whose features are not in store is gone.
    """
    rows = run.data.own_train
    table = _table_of(run, len(rows))
    with console.status("comparing labels with out-of-fold scores", spinner="dots"):
        found = _suspicions(run, table, rows)
    is_open = np.array([row.sha256 not in answered.of_file for row in rows], dtype=np.bool_)
    order = np.argsort(-found.score, kind="stable")
    order = order[is_open[order]]
    chosen = order[: max(FEWEST, math.ceil(share * len(rows)))]
    families = near_copy_families([run.data.file_of(rows[i]) for i in chosen], run.config.decode.window)
    kinds = [_kind_of(int(table.labels[i]), int(found.suggested[i]), len(table.class_names)) for i in chosen]
    places = in_order(kinds, families.tolist())
    names, labelled = table.class_names, run.data.regime == "labelled"
    p_normal = None if labelled else run.fitted.p_normal(table.scores)
    images = tuple(
        ListedLabel(
            rank=rank,
            path=rows[i].path,
            sha256=rows[i].sha256,
            label=names[table.labels[i]],
            suggested=names[found.suggested[i]],
            kind=kinds[place],
            suspicion=float(found.score[i]),
            contradicted=bool(labelled and found.contradicted[i]),
            p_label=float(found.p_label[i]) if labelled else None,
            p_suggested=float(found.p_suggested[i]) if labelled else None,
            p_normal=None if p_normal is None else float(p_normal[i]),
            members_against=int(found.members_against[i]) if labelled else None,
            neighbours_against=int(found.neighbours_against[i]) if labelled else None,
            family=int(families[place]),
        )
        for rank, place in enumerate(places, start=1)
        for i in (int(chosen[place]),)
    )
    contradicted = int((found.contradicted & is_open).sum()) if labelled else None
    return LabelList(images, len(rows), contradicted, int((~is_open).sum()), table.member_names)


def in_order(kinds: Sequence[Kind], families: Sequence[int]) -> list[int]:
    """Places in the order of the list, given in the order of suspicion.

    Hidden minority images come first. Near copies stand together, at the place of the first of them: their
    labels are judged together.
    """
    first_of: dict[int, tuple[int, int]] = {}
    for place, (kind, family) in enumerate(zip(kinds, families, strict=True)):
        key = (KINDS.index(kind), place)
        first_of[family] = min(first_of.get(family, key), key)
    return sorted(range(len(kinds)), key=lambda place: (first_of[families[place]], place))


def _kind_of(label: int, suggested: int, n_classes: int) -> Kind:
    if suggested == n_classes - 1:
        return "hidden"
    return "false_minority" if label == n_classes - 1 else "other"


def _table_of(run: Run, n_rows: int) -> ScoreTable:
    """Complete out-of-fold scores of the data set's own training rows; the mean of all repeats.

    Feedback images follow the training rows, and people have answered for them already.
    """
    repeats = sorted({fit.repeat for fit in run.results})
    table, _ = run.tables_of(repeats)
    own = np.arange(len(table.row_ids)) < n_rows
    return replace(table, scores=filled_scores(table)).rows(own)


def _suspicions(run: Run, table: ScoreTable, rows: Sequence[ManifestRow]) -> Suspicions:
    if run.data.regime == "labelled":
        return suspicions_in(table, run.fitted.method, pooled_features(run.config, run.data, rows))
    # All are normal, so that no similar image can contradict, and nothing is calibrated.
    nothing = np.zeros(len(rows), dtype=np.int64)
    return Suspicions(
        score=run.fitted.fused_scores(table.scores),
        suggested=np.full(len(rows), len(table.class_names) - 1, dtype=np.int64),
        p_label=np.full(len(rows), np.nan),
        p_suggested=np.full(len(rows), np.nan),
        members_against=nothing,
        neighbours_against=nothing,
    )


def suspicions_in(table: ScoreTable, method: str, vectors: FloatArray) -> Suspicions:
    """What cross-fitted models and similar images say of the labels of a table.

    Args:
        table: complete out-of-fold scores.
        method: of the fitted ensemble.
        vectors: ``[N, D]`` pooled features of its rows.
    """
    return suspicions_of(
        table.labels,
        judging_probabilities(table, method),
        [judging_probabilities(table, f"single:{member}") for member in table.member_names],
        neighbour_shares(vectors, table.labels, table.groups, len(table.class_names)),
    )
