"""Which entries of a folder or an archive are images, which are junk, and which are images by content alone.

One place for the rule: layouts, the recognition of folders, and the listings of ``score`` ask here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from imagedata.decoding.formats import FIRST_BYTES, IMAGE_SUFFIXES, looks_like_image

NO_ENDING = "no ending"
"""In place of the ending of a file that has none."""

# What systems and programs leave behind, in lower case. Names with a leading dot need no entry:
# .git, .ipynb_checkpoints, .DS_Store, .Trashes, and the "._name" files of macOS, which are no images
# although they end like them.
_JUNK = frozenset(
    {
        "__macosx",  # resource forks, in archives made on macOS
        "__pycache__",
        "@eadir",  # thumbnails of Synology's disk stations
        "@recycle",  # QNAP
        "#recycle",  # Synology
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",  # a folder's icon on macOS
    }
)


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden or left behind by a system, so that nothing in it is data.

    Args:
        name: one name, without the folders above it.
    """
    return (name.startswith(".") and name not in {".", ".."}) or name.lower() in _JUNK


def is_junk_path(path: str) -> bool:
    """Whether any part of a member's path within an archive is junk."""
    return any(map(is_junk, re.split(r"[/\\]", path)))


def is_image_name(name: str) -> bool:
    """Whether a file is named like an image, in either case."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - asked for every file


def is_image_by_content(path: str | os.PathLike[str]) -> bool:
    """Whether a file that is not named like an image begins like one; False for what cannot be read."""
    try:
        if not os.path.isfile(path):  # noqa: PTH113 - a pipe would wait forever
            return False
        with open(path, "rb") as file:  # noqa: PTH123
            return looks_like_image(file.read(FIRST_BYTES))
    except OSError:
        return False


def of_other_endings(counts: Mapping[str, int]) -> str:
    """Say how many images were left out because of their names: ``3 images end in .bak (2) or .jxl (1)``."""
    each = " or ".join(f"{ending} ({count:,})" for ending, count in counts.items())
    total = sum(counts.values())
    return f"{total:,} {'image ends' if total == 1 else 'images end'} in {each}"


def ending_of(name: str) -> str:
    """A file's ending in lower case, to count by: ``.bak``, or :data:`NO_ENDING`.

    Endings of digits alone count as one, ``.#``: DICOM files that are named by their identifiers end in
    thousands of different numbers.
    """
    ending = PurePosixPath(name).suffix.lower()
    if ending[1:].isdigit():
        return ".#"
    return ending.encode("utf-8", "backslashreplace").decode() or NO_ENDING
