"""Pictures that a data set holds more than once, and which borders they cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from imagedata.audit.facts import THUMBNAIL_SIDE, FileFacts
from imagedata.audit.hashing import MAX_PAIRS, STRICT, alike, levels_for, near_pairs, perceptual_hashes
from imagedata.audit.rules import FLAT_SPREAD
from imagedata.listing import ListedImage
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
        is_strict: the pictures are alike by nature, so that only nearly identical ones are near copies.
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
    files_of: dict[str, list[int]] = {}
    for position, each in enumerate(facts):
        if each.is_usable:
            files_of.setdefault(each.sha256, []).append(position)
    exact = [
        DuplicateSet("exact", tuple(files), _relations(files, images, groups))
        for files in files_of.values()
        if len(files) > 1
    ]
    shas = [sha for sha, files in files_of.items() if facts[files[0]].spread >= FLAT_SPREAD]
    near, is_complete, is_strict = _near([facts[files_of[sha][0]] for sha in shas])
    perceptual = []
    for component in components(near):
        files = sorted(position for sha in component for position in files_of[sha])
        perceptual.append(DuplicateSet("perceptual", tuple(files), _relations(files, images, groups)))
    sets = [*exact, *sorted(perceptual, key=lambda each: each.members)]
    return Duplicates(tuple(sets), near, is_complete, is_strict)


def _near(facts: list[FileFacts]) -> tuple[tuple[tuple[str, str], ...], bool, bool]:
    """Verified near pairs of different files, whether all could be looked at, and whether strictly."""
    if not facts:
        return (), True, False
    side = THUMBNAIL_SIDE
    thumbnails = np.frombuffer(b"".join(each.thumbnail for each in facts), np.uint8).reshape(-1, side, side)
    levels = levels_for(thumbnails)
    found: list[tuple[str, str]] = []
    looked_at, is_complete = 0, True
    for pairs in near_pairs(perceptual_hashes(thumbnails)):
        if looked_at + len(pairs) > MAX_PAIRS:
            is_complete = False
            break
        looked_at += len(pairs)
        for left, right in pairs[alike(thumbnails, pairs, levels)].tolist():
            one, other = sorted((facts[left].sha256, facts[right].sha256))
            found.append((one, other))
    return tuple(sorted(found)), is_complete, levels == STRICT


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
