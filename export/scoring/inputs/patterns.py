"""Patterns such as ``parts/**/*.jpg``, expanded by ourselves.

:mod:`glob` follows links in a circle until the system gives up, and a pattern in a list is relative to the
list's folder, whose own name may hold brackets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch

from contracts.errors import DataError

_WILDCARD = re.compile(r"[*?\[]")


def has_wildcard(text: str) -> bool:
    """True where ``*``, ``?`` or ``[`` occurs."""
    return _WILDCARD.search(text) is not None


def matches(pattern: str, folder: str = "") -> Iterator[str]:
    """Yield the files and folders that fit a pattern, each folder visited once for each rest of the pattern.

    As in a shell, ``*``, ``?`` and ``[…]`` stay within a name, ``**`` is any number of folders, also none,
    and names that begin with a dot are passed over unless the pattern's name does.

    Args:
        pattern: with forward slashes.
        folder: what it is relative to; empty for the working folder.

    Raises:
        DataError: a folder on the way cannot be read.
    """
    parts = [part for part in pattern.split("/") if part not in {"", "."}]
    waiting: list[tuple[str, int]] = [("/" if pattern.startswith("/") else folder, 0)]
    visited: set[tuple[int, int, int]] = set()
    while waiting:
        current, used = waiting.pop()
        facts = os.stat(current or ".")  # noqa: PTH116 - strings throughout, as in inputs
        if (identity := (facts.st_dev, facts.st_ino, used)) in visited:
            continue
        visited.add(identity)
        for path, more in _step(current, parts[used], used + 1 == len(parts)):
            if more is None:
                yield path
            else:
                waiting.append((path, used + more))


def _step(folder: str, part: str, is_last: bool) -> Iterator[tuple[str, int | None]]:
    """Where one part of a pattern leads: a path, and how many parts are then used up, None for all."""
    if not has_wildcard(part):
        child = os.path.join(folder, part)  # noqa: PTH118
        if is_last and os.path.lexists(child):
            yield child, None
        elif not is_last and os.path.isdir(child):  # noqa: PTH112
            yield child, 1
        return
    if part == "**" and not is_last:
        yield folder, 1
    for name, is_inner in _entries(folder):
        child = os.path.join(folder, name)  # noqa: PTH118
        if name.startswith(".") and not part.startswith("."):
            continue
        if part == "**" and is_inner:
            yield child, 0
        elif is_last and (part == "**" or fnmatch(name, part)):
            yield child, None
        elif is_inner and fnmatch(name, part):
            yield child, 1


def _entries(folder: str) -> list[tuple[str, bool]]:
    """Names in a folder, sorted, and whether each is a folder or a link to one."""
    try:
        with os.scandir(folder or ".") as listing:
            return sorted((entry.name, is_folder(entry)) for entry in listing)
    except OSError as error:
        shown = folder.encode("utf-8", "backslashreplace").decode()
        raise DataError(
            f"folder {shown} cannot be read: {error.strerror}. Make it readable, or name others instead."
        ) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """False for a link to itself, which is neither file nor folder."""
    try:
        return entry.is_dir()
    except OSError:
        return False
