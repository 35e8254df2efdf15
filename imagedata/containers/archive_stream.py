"""A tar archive's bytes, read forwards, with limits against archives that are made to do harm."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from typing import IO, Any

import pyarrow as pa

MAX_RATIO = 100
"""How many times its compressed size an archive may grow. Images hardly shrink; bombs grow 1,000 times."""

RATIO_SLACK = 64 << 20
"""Bytes that any archive may grow to, whatever its ratio."""

_LARGEST_HEADER = 1 << 20
_BLOCK = 1 << 20


class BrokenArchiveError(Exception):
    """What is wrong with an archive, as the end of a sentence that begins with "the archive"."""


class ArchiveStream:
    """What :mod:`tarfile` reads headers from; position and seeks count decompressed bytes.

    Two properties protect from hostile headers: it never goes back, so that no header can make a reader run
    in circles, and a single header is at most a mebibyte.

    Args:
        path: the archive.
        kind: ``tar``, ``gz``, ``bz2``, ``xz`` or ``zst``.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, kind: str) -> None:
        self._raw = open(path, "rb")  # noqa: SIM115, PTH123 - closed in close()
        self._compressed = kind != "tar"
        self._data: IO[bytes] | Any = _decompressed(self._raw, kind) if self._compressed else self._raw
        self._position = 0
        self.last = b""

    def tell(self) -> int:
        """Bytes passed so far."""
        return self._position

    def read(self, size: int) -> bytes:
        """The next bytes, fewer at the end.

        Raises:
            BrokenArchiveError: a header of unreasonable size, or damage, or a bomb.
        """
        if not 0 <= size <= _LARGEST_HEADER:
            raise BrokenArchiveError(f"has a header of {size:,} bytes at byte {self._position:,}")
        self.last = self.read_block(size)
        return self.last

    def read_block(self, size: int) -> bytes:
        """Bytes of a member, of any size; fewer at the end."""
        if size <= _BLOCK:
            piece = self._next(size)
            if len(piece) in {0, size}:
                return piece
            return piece + self.read_block(size - len(piece))
        pieces = []
        while size > 0 and (piece := self._next(min(size, _BLOCK))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def seek(self, offset: int) -> None:
        """Go forwards; beyond the end is no error, reading there gives nothing."""
        if offset < self._position:
            raise BrokenArchiveError(f"has a damaged header before byte {self._position:,}")
        if self._compressed:
            while self._position < offset and self._next(min(offset - self._position, _BLOCK)):
                pass
        else:
            self._raw.seek(offset)
            self._position = offset

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def _next(self, size: int) -> bytes:
        try:
            piece: bytes = self._data.read(size)
        except (EOFError, zlib.error, lzma.LZMAError, OSError, pa.ArrowException) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:150].rstrip(".")
            raise BrokenArchiveError(
                f"is damaged or cut off where byte {self._position:,} would follow ({reason})"
            ) from error
        self._position += len(piece)
        if self._compressed and self._position > RATIO_SLACK + MAX_RATIO * self._raw.tell():
            raise BrokenArchiveError(
                f"grows to more than {MAX_RATIO} times its size at byte {self._position:,} and was not "
                "read further; unpack it yourself if it is meant to be so"
            )
        return piece


def _decompressed(raw: io.BufferedReader, kind: str) -> IO[bytes] | Any:
    """A reader of the decompressed bytes."""
    if kind == "gz":
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if kind == "bz2":
        return bz2.BZ2File(raw)
    if kind == "xz":
        return lzma.LZMAFile(raw)
    return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
