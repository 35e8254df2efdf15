"""Headers of tar archives, read forwards, and which members must not be read.

Webdataset shards are such archives.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import Self

from imagedata.containers.archive_stream import ArchiveStream, BrokenArchiveError

_HEADER = 512
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")
_LOOKED_AT_BEHIND_THE_END = 1 << 20


def archive_members(stream: ArchiveStream) -> Iterator[tarfile.TarInfo]:
    """Yield the headers one after another.

    Between two of them the content of the first may be read:
    ``stream.seek(member.offset_data)``, ``stream.read_block(member.size)``.

    Raises:
        BrokenArchiveError: damaged or cut off; members before that place have been yielded.
    """
    try:
        archive = tarfile.TarFile(
            fileobj=stream,  # type: ignore[arg-type]  # has what is used: read, tell and seek
            tarinfo=_QuickInfo,
            encoding="utf-8",
            errors="surrogateescape",
        )
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all
            yield member
        _check_end(stream)
    except BrokenArchiveError:
        raise
    except Exception as error:  # tarfile raises more than its own errors on hostile bytes
        reason = str(error)[:150].rstrip(".") or type(error).__name__
        raise BrokenArchiveError(f"is no whole tar file ({reason})") from error


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


def refusal(member: tarfile.TarInfo) -> str:
    """Why a member must not be read, as a sentence without its subject; empty where it may be."""
    if problem := refusal_of_name(member.name):
        return problem
    if member.issym() or member.islnk():
        return f"is a link to {member.linkname[:100]!r}; links within archives are not followed."
    if not (member.isreg() or member.isdir()):
        return "is no regular file of its archive."
    if member.issparse():
        return "is stored as a sparse file, which is not read. Pack it again without --sparse."
    return ""


def refusal_of_name(name: str) -> str:
    """Why a member of such a name must not be read, in an archive of any kind; empty where it may be."""
    if _ABSOLUTE.match(name):
        return "has an absolute name within its archive. Pack it again with relative names."
    if ".." in name and ".." in re.split(r"[/\\]", name):
        return "has a name with '..' that leads out of its archive. Pack it again with plain names."
    return ""


def _check_end(stream: ArchiveStream) -> None:
    """Tell a complete archive from one that just stops: tarfile ends quietly at anything that is no header.

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
