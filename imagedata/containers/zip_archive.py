"""Members of zip archives: which there are, which must not be read, and the bytes of one.

What is read is the directory at the archive's end, which names every member, its place, size and checksum. A
worker process needs none of it: it gets place, size and checksum with the plan.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO, NamedTuple

from imagedata.containers import archive_stream
from imagedata.containers.archive_stream import BrokenArchiveError
from imagedata.containers.tar import refusal_of_name

MAX_DIRECTORY_BYTES = 256 << 20
"""Largest list of members that is read; about two million, and a gigabyte of memory once taken apart."""

_LOCAL_HEADER = 30
_ENCRYPTED = 0x41  # general purpose bits 0 and 6: encrypted in the old and in the strong way
_UTF8_NAME = 0x800
_UNIX = 3
# bzip2 and LZMA are left out: a few of their bytes may stand for gigabytes, which zipfile would unpack at
# once. Neither Kaggle nor telephones use them.
_METHOD_NAMES = {9: "deflate64", zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma", 93: "zstd"}
_READ_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


class ZipEntry(NamedTuple):
    """How a member is stored, as the directory says it.

    Attributes:
        method: of compression, zip's number.
        stored: bytes that it takes in the archive.
        crc: CRC-32 of its content.
    """

    method: int
    stored: int
    crc: int


class ZipMember(NamedTuple):
    """A file within a zip archive.

    Attributes:
        name: path within the archive.
        offset: first byte of its header.
        size: bytes of its content.
        entry: how it is stored.
        problem: why it must not be read, as a sentence without its subject; empty where it may be.
    """

    name: str
    offset: int
    size: int
    entry: ZipEntry
    problem: str


def zip_members(file: BinaryIO) -> Iterator[ZipMember]:
    """Yield the files of an archive in the order of its directory.

    Args:
        file: the archive, opened; its position may be changed between two members.

    Raises:
        BrokenArchiveError: no zip archive, damaged, cut off, with too many members, or a bomb; members before
            that place have been yielded.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(_LimitedReads(file)) as archive:
            members = archive.infolist()
    except BrokenArchiveError:
        raise
    except Exception as error:  # zipfile raises more than its own errors on hostile bytes
        reason = str(error)[:150].rstrip(".") or type(error).__name__
        raise BrokenArchiveError(f"is damaged, cut off or no zip file ({reason})") from error
    overlapping = _overlapping(members)
    grown = 0
    for member in members:
        if member.is_dir():
            continue
        grown += member.file_size
        if grown > archive_stream.RATIO_SLACK + archive_stream.MAX_RATIO * size:
            raise BrokenArchiveError(
                f"grows to more than {archive_stream.MAX_RATIO} times its size at byte "
                f"{member.header_offset:,} and was not read further; unpack it yourself if it is meant to "
                "be so"
            )
        problem = _refusal(member)
        if not problem and id(member) in overlapping:
            problem = "overlaps another member, as in archives that are made to do harm."
        entry = ZipEntry(member.compress_type, member.compress_size, member.CRC)
        yield ZipMember(_name(member), member.header_offset, member.file_size, entry, problem)


def read_zip_member(file: BinaryIO, offset: int, size: int, entry: ZipEntry, length: int) -> bytes:
    """The first ``length`` bytes of a member; its checksum is verified where that is all of it.

    Args:
        file: the archive, opened.
        offset: first byte of its header.
        size: bytes of its content.
        entry: how it is stored.
        length: bytes that are wanted, at most ``size``.

    Raises:
        BrokenArchiveError: damaged, cut off, or not as the directory says.
    """
    try:
        file.seek(offset)
        header = file.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\3\4":
            raise BrokenArchiveError(f"is damaged at byte {offset:,}, where a member should begin")
        name_length, extra_length = struct.unpack_from("<HH", header, 26)
        file.seek(name_length + extra_length, os.SEEK_CUR)
        info = zipfile.ZipInfo()
        info.compress_type, info.compress_size, info.CRC = entry
        info.file_size = size
        with zipfile.ZipExtFile(file, "r", info) as content:
            data = content.read(length)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        reason = str(error)[:150].rstrip(".") or "it ends too early"
        raise BrokenArchiveError(f"is damaged in the member at byte {offset:,} ({reason})") from error
    if len(data) < length:
        raise BrokenArchiveError(f"ends within it, after {len(data):,} of {length:,} bytes")
    return data


class _LimitedReads(io.BufferedIOBase):
    """The archive's file as zipfile sees it: it reads the whole directory at once, whatever its size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = MAX_DIRECTORY_BYTES + 1 if size is None or size < 0 else size
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise BrokenArchiveError(
                f"lists its members in {size:,} bytes; the limit is {MAX_DIRECTORY_BYTES:,}"
            )
        return self._file.read(wanted)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _name(member: zipfile.ZipInfo) -> str:
    """The name as it was meant: macOS writes UTF-8 without saying so, and zipfile takes it for cp437."""
    if member.flag_bits & _UTF8_NAME:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except ValueError:
        return member.filename


def _refusal(member: zipfile.ZipInfo) -> str:
    if problem := refusal_of_name(_name(member)):
        return problem
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted. Unpack the archive with its password, and give the files."
    kind = stat.S_IFMT(member.external_attr >> 16) if member.create_system == _UNIX else 0
    if kind == stat.S_IFLNK:
        return "is a link; links within archives are not followed."
    if kind not in {0, stat.S_IFREG}:
        return "is no regular file of its archive."
    if member.compress_type not in _READ_METHODS:
        name = _METHOD_NAMES.get(member.compress_type, f"number {member.compress_type}")
        return f"is compressed by the method {name}, which is not read. Pack it again with deflate."
    return ""


def _overlapping(members: list[zipfile.ZipInfo]) -> set[int]:
    """Identities of members whose bytes belong to the next one, too: many names for one bomb."""
    ordered = sorted(members, key=lambda member: member.header_offset)
    return {
        id(first)
        for first, following in pairwise(ordered)
        if first.header_offset + _LOCAL_HEADER + first.compress_size > following.header_offset
    }
