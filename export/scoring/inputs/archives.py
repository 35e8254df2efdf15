"""Which images a tar archive holds, and where: one pass over its headers, nothing unpacked.

Members that are no images are passed over. Whatever should have been an image and cannot be one becomes a
row with its reason: a link, a name that leads out of the archive, and the archive itself where it is damaged
or cut off, since nobody knows what was behind that place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from imagedata.containers.archive_stream import ArchiveStream, BrokenArchiveError
from imagedata.containers.reader import ContainedImage, Container
from imagedata.containers.tar import archive_members, refusal
from imagedata.decoding.formats import IMAGE_SUFFIXES

_KINDS = {
    ".tar": "tar",
    ".tar.gz": "gz",
    ".tgz": "gz",
    ".tar.bz2": "bz2",
    ".tbz2": "bz2",
    ".tar.xz": "xz",
    ".txz": "xz",
    ".tar.zst": "zst",
}

ARCHIVE_SUFFIXES = tuple(_KINDS)
"""Endings of the file names that are read as archives."""


def index_archive(path: str) -> Iterator[tuple[str, ContainedImage]]:
    """Yield name and place of each image of an archive, in the archive's order.

    A name that occurs twice stands for its last member, as it would after unpacking. The name is empty for
    the row of the archive itself, which comes last where there is one.
    """
    kind = next(kind for ending, kind in _KINDS.items() if path.lower().endswith(ending))
    try:
        container = Container.at(path, kind)
        stream = ArchiveStream(path, kind)
    except OSError as error:
        problem = f"archive cannot be read: {error.strerror or error}."
        yield "", ContainedImage(Container(path, kind, 0, 0), 0, 0, problem)
        return
    found: dict[str, ContainedImage] = {}
    wrong = ""
    try:
        for member in archive_members(stream):
            if member.isdir() or os.path.splitext(member.name)[1].lower() not in IMAGE_SUFFIXES:  # noqa: PTH122
                continue
            found.pop(member.name, None)  # so that the last one also stands at its own place
            found[member.name] = ContainedImage(container, member.offset_data, member.size, refusal(member))
    except BrokenArchiveError as error:
        wrong = str(error)
    finally:
        stream.close()
    yield from found.items()
    if wrong:
        problem = f"archive {wrong}; {len(found):,} images before that place are rows of their own."
        yield "", ContainedImage(container, 0, 0, problem)
