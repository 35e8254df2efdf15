"""Pictures that a data set holds more than once, and which borders they cross."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from imagedata.audit.exposures import MOST_DISTANCE, Pictures, judge
from imagedata.audit.fact_table import FactTable, Positions, StoredThumbnails
from imagedata.audit.facts import FileFacts
from imagedata.audit.hashing import (
    MAX_PAIRS,
    are_alike,
    correlations,
    near_pairs,
    perceptual_hashes,
    worth_a_look,
)
from imagedata.audit.rules import FLAT_SPREAD
from imagedata.layouts.listed_image import ListedImage
from imagedata.near_duplicates import components

MAX_COMPARED = 20_000
"""Most pairs whose pixels are compared, the closest first."""

_NEAREST = 5  # pairs of a file that are compared: a copy is among them, even where all are alike
_DRAWN, _ASKED = 4000, 48  # files among which neighbours are sought, and files that are asked for theirs
_RANKS = range(3, 9)  # of the neighbours by thumbnails, 0 being the file itself

Kind = Literal["exact", "perceptual"]
Relation = Literal["within a class", "across splits", "across labels", "across groups"]
RELATIONS: tuple[Relation, ...] = ("within a class", "across splits", "across labels", "across groups")


@dataclass(frozen=True)
class DuplicateSet:
    """Files that are one picture.

    Attributes:
        kind: ``exact`` (equal bytes) or ``perceptual`` (linked by near pairs; not all bytes equal).
        members: positions of the files, ascending.
        relations: what pairs of them have between them.
    """

    kind: Kind
    members: tuple[int, ...]
    relations: frozenset[Relation]


@dataclass(frozen=True)
class Duplicates:
    """All of a data set's.

    Attributes:
        sets: exact ones first, each in the order of its first file.
        near: pairs of SHA-256 whose pictures are near copies, the smaller first; sorted.
        is_complete: False where there are more near pairs than are looked at.
        compared: pairs whose pixels were compared.
        limit: greatest distance, by :mod:`imagedata.audit.exposures`, that copies of this set may have.
    """

    sets: tuple[DuplicateSet, ...]
    near: tuple[tuple[str, str], ...]
    is_complete: bool
    compared: int = 0
    limit: float = MOST_DISTANCE

    def of(self, kind: Kind, relation: Relation | None = None) -> list[DuplicateSet]:
        """Sets of a kind, of which some pair has the relation between it."""
        return [s for s in self.sets if s.kind == kind and (relation is None or relation in s.relations)]

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Kind → relation → number of sets and of files in them; 0 is said, too."""
        counted: dict[str, dict[str, dict[str, int]]] = {}
        kinds: tuple[Kind, ...] = ("exact", "perceptual")
        for kind in kinds:
            counted[kind] = {}
            for relation in RELATIONS:
                sets = self.of(kind, relation)
                counted[kind][relation] = {"sets": len(sets), "files": sum(len(s.members) for s in sets)}
        return counted


def find_duplicates(
    images: Sequence[ListedImage],
    facts: Sequence[FileFacts],
    pictures: Pictures,
    groups: Sequence[str] | None = None,
) -> Duplicates:
    """Find equal files and near copies.

    Hashes and thumbnails name candidates; whether two pictures are one exposure is decided on their pixels.
    Near-constant images are compared by their bytes only: they all look alike.

    Args:
        images: ``[N]`` paths, labels and splits.
        facts: ``[N]``.
        pictures: of the same files, for the pixels of candidates.
        groups: ``[N]`` patient or lot of each file; None where no rule tells them.
    """
    table = FactTable.of(facts)
    first_of = table.first_of_content
    usable = np.flatnonzero(table.is_usable)
    firsts = usable[first_of[usable] == usable]
    # Files of each content that there are two and more of; the others stand for themselves.
    sizes = np.bincount(first_of[usable], minlength=len(table)) if len(usable) else np.zeros(0, np.int64)
    files_of: dict[int, list[int]] = {first: [] for first in np.flatnonzero(sizes > 1).tolist()}
    for position in usable[sizes[first_of[usable]] > 1].tolist():
        files_of[int(first_of[position])].append(position)
    exact = [
        DuplicateSet("exact", tuple(files), _relations(files, images, groups)) for files in files_of.values()
    ]
    spread = table.column("spread")
    firsts = firsts[np.asarray(spread[firsts]) >= FLAT_SPREAD]
    candidates = candidates_of(table, firsts)
    verdicts = judge(candidates.pairs, candidates.is_mirrored, candidates.others, pictures)
    near = candidates.pairs[verdicts.is_copy].tolist()
    first_of_sha = {table.sha256(first): first for pair in near for first in pair}
    named = [(table.sha256(left), table.sha256(right)) for left, right in near]
    named = sorted((min(pair), max(pair)) for pair in named)
    perceptual = []
    for component in components(named):
        members = [first_of_sha[sha] for sha in component]
        files = sorted(position for first in members for position in files_of.get(first, [first]))
        perceptual.append(DuplicateSet("perceptual", tuple(files), _relations(files, images, groups)))
    sets = [*exact, *sorted(perceptual, key=lambda each: each.members)]
    return Duplicates(
        tuple(sets), tuple(named), candidates.is_complete, len(candidates.pairs), verdicts.limit
    )


@dataclass(frozen=True)
class Candidates:
    """Pairs of files whose pixels are to be compared.

    Attributes:
        pairs: ``[P, 2]`` positions, the smaller first.
        is_mirrored: ``[P]`` whether the second one resembles the first in a mirror.
        others: ``[Q, 2]`` close pictures that are hardly copies.
        is_complete: False where there were too many.
    """

    pairs: Positions
    is_mirrored: npt.NDArray[np.bool_]
    others: Positions
    is_complete: bool


def candidates_of(table: FactTable, files: Positions) -> Candidates:
    """Pairs of files of different content that resemble each other, the nearest of each file."""
    none = np.zeros((0, 2), dtype=np.int64)
    if len(files) < 2:
        return Candidates(none, np.zeros(0, dtype=np.bool_), none, True)
    thumbnails = StoredThumbnails(table, files)
    alike = are_alike(thumbnails)
    as_they_are, in_a_mirror = perceptual_hashes(thumbnails)
    kept: list[Positions] = [none]
    mirrored, closeness = [np.zeros(0, dtype=np.bool_)], [np.zeros(0, dtype=np.float32)]
    looked_at, is_complete, n = 0, True, len(files)
    for found in near_pairs(np.concatenate([as_they_are, in_a_mirror])):
        # Of two hashes for each file: both as they are, or the second one in a mirror.
        is_first = found[:, 0] < n
        flips = found[:, 1] >= n
        pairs = np.stack([found[:, 0], found[:, 1] - n * flips], axis=1)
        is_wanted = is_first & (pairs[:, 0] < pairs[:, 1])
        pairs, flips = pairs[is_wanted], flips[is_wanted]
        if looked_at + len(pairs) > MAX_PAIRS:
            is_complete = False
            break
        looked_at += len(pairs)
        whole, detail = correlations(thumbnails, pairs, flips)
        is_worth = worth_a_look(whole, detail, alike=alike)
        kept.append(pairs[is_worth])
        mirrored.append(flips[is_worth])
        closeness.append(detail[is_worth])
    pairs, flips, close = np.concatenate(kept), np.concatenate(mirrored), np.concatenate(closeness)
    order = _nearest_of_each(pairs, close)
    is_complete &= len(order) <= MAX_COMPARED
    order = order[:MAX_COMPARED]
    return Candidates(files[pairs[order]], flips[order], files[_neighbours(thumbnails)], is_complete)


def _nearest_of_each(pairs: Positions, closeness: npt.NDArray[np.float32]) -> Positions:
    """Places of pairs, the closest first, that are among the few closest of one of their files."""
    ranks: Counter[int] = Counter()
    kept = []
    for place in np.argsort(-closeness, kind="stable").tolist():
        left, right = pairs[place].tolist()
        if min(ranks[left], ranks[right]) < _NEAREST:
            kept.append(place)
        ranks[left] += 1
        ranks[right] += 1
    return np.array(kept, dtype=np.int64)


def _neighbours(thumbnails: StoredThumbnails) -> Positions:
    """``[Q, 2]`` close pictures, drawn: neither the nearest, which may be copies, nor any two."""
    rng = np.random.default_rng(0)
    n = len(thumbnails)
    drawn = np.sort(rng.choice(n, min(n, _DRAWN), replace=False))
    rows = thumbnails[drawn].reshape(len(drawn), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    asked = rng.choice(len(drawn), min(len(drawn), _ASKED), replace=False)
    order = np.argsort(-(rows[asked] @ rows.T), axis=1)[:, _RANKS.start : _RANKS.stop]
    if not order.shape[1]:
        return np.zeros((0, 2), dtype=np.int64)
    chosen = order[np.arange(len(asked)), rng.integers(order.shape[1], size=len(asked))]
    return np.stack([drawn[asked], drawn[chosen]], axis=1)


def _relations(
    files: Sequence[int],
    images: Sequence[ListedImage],
    groups: Sequence[str] | None,
) -> frozenset[Relation]:
    """What some pair of the files has between it."""
    places = [(images[f].split, images[f].label, groups[f] if groups else "") for f in files]
    splits, labels, names = (set(part) for part in zip(*places, strict=True))
    found: set[Relation] = set()
    if len(set(places)) < len(places):
        found.add("within a class")
    if len(splits) > 1:
        found.add("across splits")
    if len(labels) > 1:
        found.add("across labels")
    if len(names) > 1:
        found.add("across groups")
    return frozenset(found)
