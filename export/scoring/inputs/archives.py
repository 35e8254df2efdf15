"""Which images a tar archive holds, and where: one pass over its headers, nothing unpacked.

Webdataset shards are such archives. Members that are no images are passed over. Whatever should have been
an image and cannot be one becomes a row with its reason: a link, a name that leads out of the archive, and
the archive itself where it is damaged or cut off, since nobody knows what was behind that place.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from typing import Self

from export.scoring.inputs.archive_stream import ArchiveStream, BrokenArchiveError
from export.scoring.inputs.containers import Container, PackedImage
from imagedata.decoding.decode import IMAGE_SUFFIXES

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

_HEADER = 512
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")
_LOOKED_AT_BEHIND_THE_END = 1 << 20


def index_archive(path: str) -> Iterator[tuple[str, PackedImage]]:
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
        yield "", PackedImage(Container(path, kind, 0, 0), 0, 0, problem)
        return
    found: dict[str, PackedImage] = {}
    wrong = ""
    try:
        for member in _members(stream):
            if member.isdir() or os.path.splitext(member.name)[1].lower() not in IMAGE_SUFFIXES:  # noqa: PTH122
                continue
            found.pop(member.name, None)  # so that the last one also stands at its own place
            found[member.name] = PackedImage(container, member.offset_data, member.size, _refusal(member))
        _check_end(stream)
    except BrokenArchiveError as error:
        wrong = str(error)
    except Exception as error:  # tarfile raises more than its own errors on hostile bytes
        wrong = f"is no whole tar file ({str(error)[:150].rstrip('.') or type(error).__name__})"
    finally:
        stream.close()
    yield from found.items()
    if wrong:
        problem = f"archive {wrong}; {len(found):,} images before that place are rows of their own."
        yield "", PackedImage(container, 0, 0, problem)


def _members(stream: ArchiveStream) -> Iterator[tarfile.TarInfo]:
    """Headers one after another; tarfile would keep them all."""
    archive = tarfile.TarFile(
        fileobj=stream,  # type: ignore[arg-type]  # has what is used: read, tell and seek
        tarinfo=_QuickInfo,
        encoding="utf-8",
        errors="surrogateescape",
    )
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]
        yield member


class _QuickInfo(tarfile.TarInfo):
    """A header of which only what is asked for here is read, in a third of the time.

    Plain files with an ordinary header take the short way; every other header is left to tarfile.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header of 512 bytes (POSIX.1-1988, the layout of struct ``posix_header``)."""
        if len(buf) == _HEADER and buf[156:157] == tarfile.REGTYPE:
            try:
                size, checksum = (int(buf[a:b].strip(b"\0 "), 8) for a, b in ((124, 136), (148, 156)))
            except ValueError:  # an empty field, or a number in base 256
                size = checksum = -1
            # The checksum is over all bytes, its own eight taken as spaces.
            if size >= 0 and checksum == sum(buf) - sum(buf[148:156]) + 8 * ord(" "):
                info = cls(_text(buf[:100], encoding, errors))
                info.size = size
                if prefix := _text(buf[345:500], encoding, errors):
                    info.name = f"{prefix}/{info.name}"
                return info
        return super().frombuf(buf, encoding, errors)


def _text(field: bytes | bytearray, encoding: str, errors: str) -> str:
    """A field up to its first zero byte."""
    return field.partition(b"\0")[0].decode(encoding, errors)


def _refusal(member: tarfile.TarInfo) -> str:
    """Why a member is not read, as a sentence; empty where it is."""
    if member.issym() or member.islnk():
        return f"is a link to {member.linkname[:100]!r}; links within archives are not followed."
    if not member.isreg():
        return "is no regular file of its archive."
    if member.issparse():
        return "is stored as a sparse file, which is not read. Pack it again without --sparse."
    if _ABSOLUTE.match(member.name):
        return "has an absolute name within its archive. Pack it again with relative names."
    if ".." in member.name and ".." in re.split(r"[/\\]", member.name):
        return "has a name with '..' that leads out of its archive. Pack it again with plain names."
    return ""


def _check_end(stream: ArchiveStream) -> None:
    """Tell a whole archive from one that stops: tarfile ends quietly at anything that is no header.

    Raises:
        BrokenArchiveError: no end mark, damage in place of a header, or more behind the mark.
    """
    last, at = stream.last, stream.tell()
    if len(last) < _HEADER:
        raise BrokenArchiveError(f"has no end mark after byte {at:,}, so that it may be cut off")
    if any(last):
        raise BrokenArchiveError(f"is damaged at byte {at - _HEADER:,}, where a header should be")
    if any(stream.read_block(_LOOKED_AT_BEHIND_THE_END)):
        raise BrokenArchiveError(
            f"holds more behind its end mark at byte {at - _HEADER:,}, as joined archives do; "
            "give those one by one"
        )
