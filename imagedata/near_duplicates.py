"""Near copies that ``check`` found, on file, and what the manifest makes of them.

Files are named by their SHA-256, so that the list holds wherever the data set lies and however its files
are called. What becomes of near copies is the manifest's rule for equal files, less what would cost
pictures without need: two near copies of one label and one side of a split both stay, as frames
of a film do, but never part between folds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from contracts.errors import UsageError
from contracts.files import read_json, write_json

PictureOfFile = Mapping[str, str]
"""SHA-256 of a file that has near copies → name of their picture, the smallest SHA-256 among them."""

_FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


def write_near_duplicates(path: Path, dataset: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Write pairs of SHA-256 of near copies."""
    write_json(path, {"format": _FORMAT, "dataset": dataset, "pairs": [list(pair) for pair in pairs]})


def read_near_duplicates(path: str | None) -> PictureOfFile:
    """Read what :func:`write_near_duplicates` wrote, pairs that share a file linked to one picture.

    Args:
        path: as given by the user; None means that no near copies are taken into account.

    Raises:
        UsageError: the file is missing or not of this kind.
    """
    if path is None:
        return {}
    try:
        document = read_json(Path(path))
        pairs = [(str(left), str(right)) for left, right in document["pairs"]]
        is_ours = document["format"] == _FORMAT and all(_SHA256.fullmatch(s) for p in pairs for s in p)
    except OSError as error:
        raise UsageError(
            f"near_duplicates={path}: {error.strerror}. Write it with the command check."
        ) from None
    except (ValueError, KeyError, TypeError):
        is_ours = False
    if not is_ours:
        raise UsageError(f"near_duplicates={path}: no list of near copies. Write it with the command check.")
    return pictures_of(pairs)


def pictures_of(pairs: Sequence[tuple[str, str]]) -> PictureOfFile:
    """Name the picture of every file that stands in a pair."""
    return {name: linked[0] for linked in components(pairs) for name in linked}


def components(pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Names that pairs link, directly or by others; each component sorted, and so are they."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            # Path halving keeps the union-find trees flat.
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for left, right in pairs:
        # The smaller name becomes the root, so that the result does not depend on the order of the pairs.
        one, other = sorted((root(left), root(right)))
        parent[other] = one
    linked: dict[str, list[str]] = {}
    for name in sorted(parent):
        linked.setdefault(root(name), []).append(name)
    return sorted(linked.values())
