"""Where on its slide a patch was cut out, by its file's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

# At most seven digits: slides have some hundred thousand pixels per side.
_PLACE = re.compile(r"(?:^|[_\- ])x=?(\d{1,7})[_\- ]y=?(\d{1,7})(?![0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class PatchPlace:
    """A patch's slide and place.

    Attributes:
        slide: what stands before the coordinates in the file's name, such as ``10253_idx5``; may be empty.
        x: left edge in pixels of the slide.
        y: upper edge.
    """

    slide: str
    x: int
    y: int


def place_of(path: str) -> PatchPlace | None:
    """The place that a file name such as ``10253_idx5_x1001_y1001_class0.png`` states, or None.

    Args:
        path: with forward slashes.
    """
    name = PurePosixPath(path).name
    found = _PLACE.search(name)
    if found is None:
        return None
    return PatchPlace(name[: found.start()], int(found.group(1)), int(found.group(2)))
