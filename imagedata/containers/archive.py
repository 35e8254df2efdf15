"""Members of tar and zip archives, one after another, whatever the archive's kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from imagedata.containers.archive_stream import ArchiveStream
from imagedata.containers.reader import ContainedImage, Container
from imagedata.containers.tar import archive_members, refusal
from imagedata.containers.zip_archive import ZipMember, read_zip_member, zip_members

_KINDS = {
    ".tar": "tar",
    ".tar.gz": "gz",
    ".tgz": "gz",
    ".tar.bz2": "bz2",
    ".tbz2": "bz2",
    ".tar.xz": "xz",
    ".txz": "xz",
    ".tar.zst": "zst",
    ".zip": "zip",
}

ARCHIVE_SUFFIXES = tuple(_KINDS)
"""Endings of the file names that are read as archives."""


class Member(NamedTuple):
    """A file within an archive.

    Attributes:
        name: path within the archive.
        place: where its content lies, or why it must not be read.
        first_bytes: at most that many bytes from its beginning; works until the next member is taken.
    """

    name: str
    place: ContainedImage
    first_bytes: Callable[[int], bytes]


def is_archive_name(name: str) -> bool:
    """Whether a file's name ends like an archive's, in either case."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def kind_of(path: str) -> str:
    """The kind of an archive by its ending, as :class:`~imagedata.containers.reader.Container` has it."""
    return next(kind for ending, kind in _KINDS.items() if path.lower().endswith(ending))


def members_of(container: Container) -> Iterator[Member]:
    """Yield the members of an archive that are no folders, in its order.

    Raises:
        BrokenArchiveError: damaged, cut off, or made to do harm; members before that place have been yielded.
        OSError: it cannot be opened.
    """
    return _of_zip(container) if container.kind == "zip" else _of_tar(container)


def _of_tar(container: Container) -> Iterator[Member]:
    stream = ArchiveStream(container.path, container.kind)
    try:
        for member in archive_members(stream):
            place = ContainedImage(container, member.offset_data, member.size, refusal(member))

            def first_bytes(count: int, at: int = member.offset_data, size: int = member.size) -> bytes:
                stream.seek(at)
                return stream.read_block(min(count, size))

            if not member.isdir():
                yield Member(member.name, place, first_bytes)
    finally:
        stream.close()


def _of_zip(container: Container) -> Iterator[Member]:
    with open(container.path, "rb") as file:  # noqa: PTH123 - strings throughout, as in the plan
        for each in zip_members(file):
            place = ContainedImage(container, each.offset, each.size, each.problem, each.entry)

            def first_bytes(count: int, each: ZipMember = each) -> bytes:
                return read_zip_member(file, each.offset, each.size, each.entry, min(count, each.size))

            yield Member(each.name, place, first_bytes)
