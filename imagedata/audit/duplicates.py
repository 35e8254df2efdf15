"""Pictures that a data set holds more than once, and which borders they cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from imagedata.audit.fact_table import FactTable, StoredThumbnails
from imagedata.audit.facts import FileFacts
from imagedata.audit.hashing import MAX_PAIRS, USUAL, alike, levels_for, near_pairs, perceptual_hashes
from imagedata.audit.rules import FLAT_SPREAD
from imagedata.layouts.listed_image import ListedImage
from imagedata.near_duplicates import components

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
        is_strict: the pictures are alike by nature or tiny: only nearly identical ones are near copies.
    """

    sets: tuple[DuplicateSet, ...]
    near: tuple[tuple[str, str], ...]
    is_complete: bool
    is_strict: bool = False

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
    images: Sequence[ListedImage], facts: Sequence[FileFacts], groups: Sequence[str] | None = None
) -> Duplicates:
    """Find equal files and near copies.

    Near-constant images are compared by their bytes only: they all look alike.

    Args:
        images: ``[N]`` paths, labels and splits.
        facts: ``[N]``.
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
    near, is_complete, is_strict = _near(table, firsts[np.asarray(spread[firsts]) >= FLAT_SPREAD])
    first_of_sha = {table.sha256(first): first for pair in near for first in pair}
    named = [(table.sha256(left), table.sha256(right)) for left, right in near]
    named = sorted((min(pair), max(pair)) for pair in named)
    perceptual = []
    for component in components(named):
        members = [first_of_sha[sha] for sha in component]
        files = sorted(position for first in members for position in files_of.get(first, [first]))
        perceptual.append(DuplicateSet("perceptual", tuple(files), _relations(files, images, groups)))
    sets = [*exact, *sorted(perceptual, key=lambda each: each.members)]
    return Duplicates(tuple(sets), tuple(named), is_complete, is_strict)


def _near(table: FactTable, files: npt.NDArray[np.int64]) -> tuple[list[tuple[int, int]], bool, bool]:
    """Verified near pairs of files of different content, whether all could be looked at, whether strictly."""
    if not len(files):
        return [], True, False
    thumbnails = StoredThumbnails(table, files)
    sides = np.maximum(np.asarray(table.column("width")[files]), np.asarray(table.column("height")[files]))
    levels = levels_for(thumbnails, float(np.median(sides)))
    found: list[tuple[int, int]] = []
    looked_at, is_complete = 0, True
    for pairs in near_pairs(perceptual_hashes(thumbnails)):
        if looked_at + len(pairs) > MAX_PAIRS:
            is_complete = False
            break
        looked_at += len(pairs)
        verified = files[pairs[alike(thumbnails, pairs, levels)]]
        found.extend((left, right) for left, right in verified.tolist())
    return found, is_complete, levels != USUAL


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
