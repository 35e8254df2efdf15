r"""Patients, lots and sessions, guessed from folders and file names.

Pictures of one patient are alike, and random folds that part them flatter every model. A guess is only a
guess: it is shown with counts and examples, and enforced when the user takes over its rule, which is a
regular expression for ``group`` as :class:`imagedata.spec.DataSpec` wants it.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from imagedata.groups import group_of_path
from imagedata.layouts.listed_image import ListedImage

_KEYWORDS = "patient|pat|subject|subj|sub|case|person|slide|scan|session|ses|series|study|exp|lot|batch|wafer"

# Name → pattern of the group at the beginning of a file's name, and what stands behind it there.
_NAME_PATTERNS: tuple[tuple[str, str, str], ...] = (
    ("coordinates in the names", r"[^/_]+", r"_idx\d+_x\d+_y\d+"),
    ("coordinates in the names", r"[^/]+?", r"[_-]x\d+[_-]y\d+"),
    ("a word and a number in the names", rf"(?:{_KEYWORDS})[-_ ]?\d+", r"(?!\d)[^/]*[^/\d][^/]*\."),
    ("two numbers in the names", r"\d+", r"[_-]\d+\."),
    ("a name and two numbers", r"[^/]*?[^/\d][_-]?\d+", r"[_-]\d+\."),
)

_LEAST_SHARE = 0.05  # of the files must fit a pattern
_EXAMPLES = 3


@dataclass(frozen=True)
class GroupGuess:
    """One way in which files may belong together.

    Attributes:
        kind: where it was seen, in words.
        rule: regular expression with one group that matches every path; for ``-o group=...``.
        n_groups: groups that the rule makes of all files.
        n_shared: groups of two files and more.
        n_files: files in these.
        largest: files of the largest.
        examples: group → up to three of its files, the largest groups first.
        crossing: border → groups that lie on both sides: ``splits`` and ``labels``.
    """

    kind: str
    rule: str
    n_groups: int
    n_shared: int
    n_files: int
    largest: int
    examples: dict[str, list[str]]
    crossing: dict[str, int]


def guess_groups(images: Sequence[ListedImage]) -> list[GroupGuess]:
    """All ways in which the files may belong together, the most telling first.

    Args:
        images: all files of the data set.

    Returns:
        Guesses that put at least a twentieth of the files into groups of two and more, and not all of a
        class into one; of guesses that make the same groups, the first.
    """
    found: list[GroupGuess] = []
    seen: set[bytes] = set()
    for kind, rule in [*_folder_rules(images), *_name_rules()]:
        groups = [group_of_path(rule, image.path) or None for image in images]
        if None in groups:
            continue
        partition = _partition([group or "" for group in groups])
        if partition in seen:
            continue
        seen.add(partition)
        guess = _described(kind, rule, images, [group or "" for group in groups])
        if guess is not None:
            found.append(guess)
    return found


def _partition(groups: list[str]) -> bytes:
    """Digest of the groups by the order of their first files: equal partitions, whatever the names."""
    number: dict[str, int] = {}
    numbers = array("q", (number.setdefault(group, len(number)) for group in groups))
    return hashlib.sha256(numbers).digest()


def _name_rules() -> list[tuple[str, str]]:
    """A rule for each pattern; a file that it does not fit is a group of its own, by its whole path."""
    return [
        (kind, rf"(?i)^(?:.*/(?={group}{behind}[^/]*$))?((?:{group})(?={behind}[^/]*$)|.+)")
        for kind, group, behind in _NAME_PATTERNS
    ]


def _folder_rules(images: Sequence[ListedImage]) -> list[tuple[str, str]]:
    """A rule for each level of folders that says neither the class nor the split, and has many names."""
    parents = [PurePosixPath(image.path).parent.parts for image in images]
    depth = min((len(parts) for parts in parents), default=0)
    rules = []
    for level in range(depth):
        names = [parts[level] for parts in parents]
        labels_of: dict[str, set[tuple[str, str]]] = {}
        for name, image in zip(names, images, strict=True):
            labels_of.setdefault(name, set()).add((image.split, image.label))
        if len(labels_of) > len({(image.split, image.label) for image in images}):
            rules.append((f"the folders of level {level + 1}", rf"^(?:[^/]+/){{{level}}}([^/]+)/"))
    return rules


def _described(
    kind: str, rule: str, images: Sequence[ListedImage], groups: Sequence[str]
) -> GroupGuess | None:
    """A guess with its counts; None where it ties too few files, or all of a class."""
    counts = Counter(groups)
    shared = {group: count for group, count in counts.items() if count > 1}
    tied = sum(shared.values())
    if not shared or tied < _LEAST_SHARE * len(images):
        return None
    per_class = Counter(image.label for image in images)
    by_label = Counter((image.label, group) for image, group in zip(images, groups, strict=True))
    is_class = any(count > 0.9 * per_class[label] for (label, _), count in by_label.items())
    if is_class:
        return None
    files_of: dict[str, list[str]] = {}
    sides: dict[str, dict[str, set[str]]] = {"splits": {}, "labels": {}}
    for image, group in zip(images, groups, strict=True):
        if len(files_of.setdefault(group, [])) < _EXAMPLES:
            files_of[group].append(image.path)
        sides["splits"].setdefault(group, set()).add(image.split)
        sides["labels"].setdefault(group, set()).add(image.label)
    largest = sorted(shared, key=lambda group: (-shared[group], group))
    return GroupGuess(
        kind=kind,
        rule=rule,
        n_groups=len(counts),
        n_shared=len(shared),
        n_files=tied,
        largest=shared[largest[0]],
        examples={group: files_of[group] for group in largest[:_EXAMPLES]},
        crossing={side: sum(len(of) > 1 for of in groups_of.values()) for side, groups_of in sides.items()},
    )
