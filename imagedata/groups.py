"""The group (patient, lot) of an image by its path: a regular expression, or a folder by its place."""

from __future__ import annotations

import re
from pathlib import PurePosixPath


def group_of_path(rule: str | int, path: str) -> str:
    """The group that a rule finds in a path; empty where it finds none.

    Args:
        rule: a regular expression whose one group is searched in the path; or the number of a folder, from
            1 for the first, or from -1 for the one that holds the image.
        path: relative to the set's root, with forward slashes.
    """
    if isinstance(rule, str):
        match = re.search(rule, path)
        return (match.group(1) or "") if match else ""
    folders = PurePosixPath(path).parent.parts
    index = rule - 1 if rule > 0 else rule
    # The name alone: a patient with images of two classes lies in two folders of one name, and must be one
    # group. Where two patients share a name, they become one group, which costs little and leaks nothing.
    return folders[index] if -len(folders) <= index < len(folders) else ""
