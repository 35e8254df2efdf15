"""Can the label be predicted without looking at the subject? Tiny models on facts about files and margins.

Where the classes come from different places (another hospital, another camera, another program that saved
them), dimensions, compression, metadata or the colour of a corner give the class away; a model learns that,
scores well here and fails elsewhere (DeGrave et al. 2021).

What decides is what a file adds to its pixels. The size of a lossless file, or of JPEGs of one quality, is
the texture that the picture shows, which may be the very defect that is looked for. It is not measured here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

from contracts.text import number_of
from imagedata.audit.fact_table import FactTable
from imagedata.audit.facts import METADATA, FileFacts
from imagedata.layouts.listed_image import ListedImage

WARNING_AUROC = 0.7
"""A fact that tells the minority from the rest better than this is named."""

ALL_FACTS = "all file properties together"

FILE_FACTS = ("dimensions", "pixel mode", "compression", "size beyond content", "metadata")
"""Properties of the file itself: they prove another source. Folders and names may be somebody's order, and
colours may be of the subject."""

_SIZE = "size beyond content"

_LEAST_OCTAVES = 0.5
"""Difference of medians below which sizes beyond content mean nothing: texture alone moves them by .1."""

_CERTAIN = 1e-6
"""Fisher's exact test: level at which a property that only one side has counts, however few files have it."""

_LEAST_SHARE = 0.05
_OTHER_SHARE = 0.1  # of the share on the other side, at most
_ONE_SCHEME = 0.9  # of a class's files named alike: how somebody numbers a class, which says nothing

Severity = Literal["invalid", "warning", "fine"]

_SURE = 3.29
"""Standard errors that a named AUROC lies above chance: 99.9 %, since eight facts are looked at."""

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
        is_warning: above :data:`WARNING_AUROC` and surely above chance, or a property that only one side has.
        severity: ``invalid`` where properties of the file itself predict the label.
        shown: typical values of both sides.
    """

    fact: str
    auroc: float
    interval: tuple[float, float]
    is_warning: bool
    severity: Severity
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
        exclusive = _exclusive(values, labels, group_of_row) if name == "metadata" else ""
        found.append(_measured(name, values, scores, labels, texts, exclusive))
    of_file = [values for name, values in differing.items() if name in FILE_FACTS]
    if len(of_file) > 1:
        everything = np.concatenate(of_file, axis=1)
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
    width, height, colour, encoding, metadata, excess, corners = (
        np.asarray(table.column(name)[rows], dtype=np.float64)
        for name in ("width", "height", "colour", "encoding", "metadata", "excess_bits", "corners")
    )
    formats = _numbered(table.names("file_format", rows))
    chroma = colour - colour.mean(axis=1, keepdims=True)
    return {
        "dimensions": np.stack([width, height, width / height, width * height], axis=1),
        "pixel mode": _numbered(table.names("mode", rows))[:, None],
        "compression": np.concatenate([formats[:, None], encoding], axis=1),
        _SIZE: excess[:, None],
        "metadata": metadata,
        "mean colour": np.concatenate([colour, chroma], axis=1),
        "corner pixels": corners,
        "source folder": _numbered(_sources(images))[:, None],
        "file names": _numbered(_naming_schemes(images))[:, None],
    }


def _naming_schemes(images: Sequence[ListedImage]) -> list[str]:
    """How each file is named: letters as ``a``, digits as ``9``; empty where every class has one scheme.

    One scheme per class is how somebody numbered the classes. A class with many schemes was collected from
    many places.
    """
    schemes = [
        re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", PurePosixPath(image.path).stem)) for image in images
    ]
    of_class: dict[str, Counter[str]] = {}
    for image, scheme in zip(images, schemes, strict=True):
        of_class.setdefault(image.label, Counter())[scheme] += 1
    is_order = all(max(counts.values()) >= _ONE_SCHEME * counts.total() for counts in of_class.values())
    return [""] * len(images) if is_order else schemes


def _sources(images: Sequence[ListedImage]) -> list[str]:
    """The folders of each file, without levels that only order the classes.

    Such a level has one name for all files of a class and split, or none of its folders holds two classes:
    the kinds of defects below ``test/``.
    """
    parents = [PurePosixPath(image.path).parent.parts for image in images]
    holds: dict[tuple[str, str], set[tuple[int, str]]] = {}
    for parts, image in zip(parents, images, strict=True):
        holds.setdefault((image.split, image.label), set()).update(enumerate(parts))
    labels_of: dict[tuple[int, str], set[str]] = {}
    for parts, image in zip(parents, images, strict=True):
        for place in enumerate(parts):
            labels_of.setdefault(place, set()).add(image.label)
    by_layout = {
        level
        for level in range(max((len(parts) for parts in parents), default=0))
        if all(len([p for p in places if p[0] == level]) <= 1 for places in holds.values())
        or all(len(labels) == 1 for place, labels in labels_of.items() if place[0] == level)
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
    exclusive: str = "",
) -> Shortcut:
    from sklearn.metrics import roc_auc_score

    auroc = float(roc_auc_score(labels, scores))
    error = hanley_mcneil(auroc, int(labels.sum()), int((1 - labels).sum()))
    interval = (max(0.0, auroc - 1.96 * error), min(1.0, auroc + 1.96 * error))
    is_warning = auroc > WARNING_AUROC and auroc - _SURE * error > 0.5
    if name == _SIZE:
        medians = [float(np.median(values[labels == side])) for side in (0, 1)]
        is_warning &= abs(medians[1] - medians[0]) >= _LEAST_OCTAVES
    is_warning |= bool(exclusive)
    is_of_file = name in FILE_FACTS or name == ALL_FACTS
    severity: Severity = "fine" if not is_warning else "invalid" if is_of_file else "warning"
    shown = exclusive or ("" if name == ALL_FACTS else _shown(name, values, labels, texts))
    return Shortcut(name, auroc, interval, is_warning, severity, shown)


def _exclusive(metadata: Float64Array, labels: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]) -> str:
    """Words for a kind of metadata that only one side has, by independent images; empty where there is none.

    A colour profile in one file of seven tells few labels, but it cannot come about by chance: those files
    come from another program.
    """
    from scipy.stats import fisher_exact

    for column, name in enumerate(METADATA[:3]):
        has = metadata[:, column] > 0
        counts = []
        for side in (1, 0):
            whole = len(np.unique(groups[labels == side]))
            counts.append((len(np.unique(groups[(labels == side) & has])), whole))
        (mine, of_mine), (its, of_its) = counts
        shares = sorted((mine / of_mine, its / of_its))
        if shares[1] < _LEAST_SHARE or shares[0] > _OTHER_SHARE * shares[1]:
            continue
        table = np.array([[mine, of_mine - mine], [its, of_its - its]])
        if float(fisher_exact(table).pvalue) < _CERTAIN:
            return f"{_IN_WORDS[name]} in {mine} of {of_mine} against {its} of {of_its}"
    return ""


_IN_WORDS = {"profile": "a colour profile", "exif": "EXIF data", "comment": "a comment or program's name"}


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
        if name == _SIZE:
            text = f"{2 ** median[0]:.2f} times the bits of a JPEG of fixed quality"
        elif name == "dimensions":
            text = f"{median[0]:.0f}x{median[1]:.0f}"
        elif name == "mean colour":
            text = f"RGB {median[0]:.0f} {median[1]:.0f} {median[2]:.0f}"
        elif name == "corner pixels":
            text = f"grey {np.median(mine):.0f}"
        elif name in {"pixel mode", "compression"}:
            common = Counter(text for text, label in zip(texts, labels, strict=True) if label == side)
            text = ", ".join(f"{value} {count}" for value, count in common.most_common(3))
        elif name == "metadata":
            shares = [f"{kind} {(mine[:, place] > 0).mean():.0%}" for place, kind in enumerate(METADATA[:3])]
            text = ", ".join([*shares, f"{median[3]:.0f} dpi" if median[3] > 0 else "no resolution"])
        elif name == "file names":
            text = number_of(len(np.unique(mine)), "naming scheme")
        else:
            text = number_of(len(np.unique(mine)), "folder")
        told.append(text)
    return f"{told[0]} against {told[1]}"
