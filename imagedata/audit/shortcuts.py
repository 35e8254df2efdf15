"""Can the label be told without looking at the subject? Tiny models on facts about files and margins.

Where the classes come from different places (another hospital, another camera, another program that saved
them), size, compression or the colour of a corner gives the class away; a model learns that, scores
well here and fails elsewhere (sources, not lungs: DeGrave et al. 2021).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from imagedata.audit.fact_table import FactTable
from imagedata.audit.facts import FileFacts
from imagedata.layouts.listed_image import ListedImage

WARNING_AUROC = 0.7
"""A fact that tells the minority from the rest better than this is named."""

ALL_FACTS = "all of these together"

SOURCE_FACTS = ("file size", "dimensions", "pixel mode", "compression", "source folder")
"""Facts about where a file comes from, which no subject has; colours may be of the subject itself."""

_SURE = 3.29
"""Standard errors that a named AUROC lies above chance: 99.9 %, since seven facts are looked at."""

LEAST_ROWS = 10
"""Fewest distinct images, or groups, of either side that a figure is given for."""

_MOST_ROWS = 10_000
_FOLDS = 5

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shortcut:
    """How well a fact alone tells the minority.

    Attributes:
        fact: its name.
        auroc: area under the ROC curve of out-of-fold scores, minority against the rest; 0.5 where the
            fact is the same for all files.
        interval: 95 %, by Hanley & McNeil (1982).
        is_warning: above :data:`WARNING_AUROC`, and surely above chance.
        shown: typical values of both sides.
    """

    fact: str
    auroc: float
    interval: tuple[float, float]
    is_warning: bool
    shown: str


def find_shortcuts(
    images: Sequence[ListedImage],
    facts: Sequence[FileFacts],
    groups: Sequence[str],
    minority: str,
    seed: int,
) -> tuple[list[Shortcut], str]:
    """Fit and measure, by folds that never part a group.

    Shallow trees for a fact by itself and boosted ones for all together: both find "always 256 wide" as
    well as "darker than". At most 10,000 files are drawn, of which half may be of the minority.

    Args:
        images: ``[N]``.
        facts: ``[N]``; refused files are passed over.
        groups: ``[N]``; copies of a picture, patches of a patient.
        minority: the class to be told from the rest.
        seed: of the draw, the folds and the trees.

    Returns:
        A shortcut for each fact that differs at all, all facts together first; and why there are none,
        empty where there are some.
    """
    table = FactTable.of(facts)
    rows = _drawn(images, table, minority, seed)
    labels = np.array([images[i].label == minority for i in rows], dtype=np.int64)
    _, group_of_row = np.unique([groups[i] for i in rows], return_inverse=True)
    sides = [len(np.unique(group_of_row[labels == side])) for side in (0, 1)] if rows else [0, 0]
    if min(sides) < LEAST_ROWS:
        return [], (
            f"{min(sides)} independent images of one side; below {LEAST_ROWS} no figure would mean anything."
        )
    columns = _columns([images[i] for i in rows], table, rows)
    differing = {name: values for name, values in columns.items() if (values != values[0]).any()}
    fold_of_row = _folds(labels, group_of_row, min(_FOLDS, *sides), seed)
    found = []
    for name, values in differing.items():
        scores = _out_of_fold(values, labels, fold_of_row, seed, boosted=False)
        texts = table.names("mode" if name == "pixel mode" else "file_format", rows)
        found.append(_measured(name, values, scores, labels, texts))
    if differing:
        everything = np.concatenate(list(differing.values()), axis=1)
        scores = _out_of_fold(everything, labels, fold_of_row, seed, boosted=True)
        found.append(_measured(ALL_FACTS, everything, scores, labels, texts=[]))
    found.sort(key=lambda each: (each.fact != ALL_FACTS, -each.auroc))
    return found, "" if found else "all files are equal in all of these facts."


def _drawn(images: Sequence[ListedImage], facts: Sequence[FileFacts], minority: str, seed: int) -> list[int]:
    """Positions of usable files, each content once; a seeded draw where there are very many."""
    table = FactTable.of(facts)
    is_first = table.is_usable & (table.first_of_content == np.arange(len(table)))
    sides: tuple[list[int], list[int]] = ([], [])
    for position in np.flatnonzero(is_first).tolist():
        sides[images[position].label == minority].append(position)
    rng = np.random.default_rng(seed)
    least = min(len(side) for side in sides)
    most = max(_MOST_ROWS // 2, _MOST_ROWS - least)
    kept = [
        side if len(side) <= most else rng.choice(side, size=most, replace=False).tolist() for side in sides
    ]
    return sorted(kept[0] + kept[1])


def _columns(images: list[ListedImage], table: FactTable, rows: list[int]) -> dict[str, Float64Array]:
    """Fact → ``[n, d]`` numbers; names are numbered by how common they are."""
    n_bytes, width, height, colour, compression, corners = (
        np.asarray(table.column(name)[rows], dtype=np.float64)
        for name in ("n_bytes", "width", "height", "colour", "compression", "corners")
    )
    formats = _numbered(table.names("file_format", rows))
    chroma = colour - colour.mean(axis=1, keepdims=True)
    return {
        "file size": np.stack([n_bytes, n_bytes / (width * height)], axis=1),
        "dimensions": np.stack([width, height, width / height, width * height], axis=1),
        "pixel mode": _numbered(table.names("mode", rows))[:, None],
        "compression": np.concatenate([formats[:, None], compression], axis=1),
        "mean colour": np.concatenate([colour, chroma], axis=1),
        "corner pixels": corners,
        "source folder": _numbered(_sources(images))[:, None],
    }


def _sources(images: Sequence[ListedImage]) -> list[str]:
    """The folders of each file without those that only say class and split."""
    parents = [PurePosixPath(image.path).parent.parts for image in images]
    holds: dict[tuple[str, str], set[tuple[int, str]]] = {}
    for parts, image in zip(parents, images, strict=True):
        holds.setdefault((image.split, image.label), set()).update(enumerate(parts))
    # A level that has one name for all files of a class and split is the layout's own.
    by_layout = {
        level
        for level in range(max((len(parts) for parts in parents), default=0))
        if all(len([p for p in places if p[0] == level]) <= 1 for places in holds.values())
    }
    return ["/".join(n for level, n in enumerate(parts) if level not in by_layout) for parts in parents]


def _numbered(names: Sequence[str]) -> Float64Array:
    """``[n]`` each name's place among the names by how often they occur, then by name."""
    counts = Counter(names)
    order = {name: i for i, name in enumerate(sorted(counts, key=lambda name: (-counts[name], name)))}
    return np.array([order[name] for name in names], dtype=np.float64)


def _folds(
    labels: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], n_folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """``[n]`` folds, stratified, groups whole."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    placeholder = np.zeros((len(labels), 1))
    if len(np.unique(groups)) == len(groups):
        splits = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(placeholder, labels)
    else:
        grouped = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        splits = grouped.split(placeholder, labels, groups)
    fold_of_row = np.empty(len(labels), dtype=np.int64)
    for fold, (_, held_out) in enumerate(splits):
        fold_of_row[held_out] = fold
    return fold_of_row


def _out_of_fold(
    values: Float64Array,
    labels: npt.NDArray[np.int64],
    fold_of_row: npt.NDArray[np.int64],
    seed: int,
    *,
    boosted: bool,
) -> Float64Array:
    """``[n]`` scores of each row by a model that saw neither it nor its group."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.tree import DecisionTreeClassifier

    scores = np.full(len(labels), labels.mean())
    for fold in np.unique(fold_of_row):
        held_out = fold_of_row == fold
        if len(np.unique(labels[~held_out])) < 2:
            continue  # groups too large: nothing to learn there, so the class share it is
        model = (
            HistGradientBoostingClassifier(
                max_iter=60, max_leaf_nodes=8, min_samples_leaf=5, early_stopping=False, random_state=seed
            )
            if boosted
            else DecisionTreeClassifier(
                max_depth=4, min_samples_leaf=5, class_weight="balanced", random_state=seed
            )
        )
        model.fit(values[~held_out], labels[~held_out])
        scores[held_out] = model.predict_proba(values[held_out])[:, 1]
    return scores


def _measured(
    name: str,
    values: Float64Array,
    scores: Float64Array,
    labels: npt.NDArray[np.int64],
    texts: list[str],
) -> Shortcut:
    from sklearn.metrics import roc_auc_score

    auroc = float(roc_auc_score(labels, scores))
    error = hanley_mcneil(auroc, int(labels.sum()), int((1 - labels).sum()))
    interval = (max(0.0, auroc - 1.96 * error), min(1.0, auroc + 1.96 * error))
    is_warning = auroc > WARNING_AUROC and auroc - _SURE * error > 0.5
    shown = "" if name == ALL_FACTS else _shown(name, values, labels, texts)
    return Shortcut(name, auroc, interval, is_warning, shown)


def hanley_mcneil(auroc: float, n_pos: int, n_neg: int) -> float:
    """Standard error of an AUROC; Hanley & McNeil (1982), equation 1."""
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc) + (n_pos - 1) * (q1 - auroc**2) + (n_neg - 1) * (q2 - auroc**2)
    return float(np.sqrt(max(variance, 0.0) / (n_pos * n_neg)))


def _shown(name: str, values: Float64Array, labels: npt.NDArray[np.int64], texts: list[str]) -> str:
    """Typical values of the minority and of the rest; ``texts`` are the modes or formats of the files."""
    told = []
    for side in (1, 0):
        mine = values[labels == side]
        median = np.median(mine, axis=0)
        if name == "file size":
            text = f"{median[0] / 1000:,.1f} kB"
        elif name == "dimensions":
            text = f"{median[0]:.0f}x{median[1]:.0f}"
        elif name == "mean colour":
            text = f"RGB {median[0]:.0f} {median[1]:.0f} {median[2]:.0f}"
        elif name == "corner pixels":
            text = f"grey {np.median(mine):.0f}"
        elif name in {"pixel mode", "compression"}:
            common = Counter(text for text, label in zip(texts, labels, strict=True) if label == side)
            text = ", ".join(f"{value} {count}" for value, count in common.most_common(3))
        else:
            text = f"{len(np.unique(mine))} folders"
        told.append(text)
    return f"{told[0]} against {told[1]}"
