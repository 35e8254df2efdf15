"""Images that lie within a larger file: members of tar and zip archives, rows of parquet files.

The plan says where each one lies, so that a worker reads exactly its bytes and nothing is unpacked.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Protocol

import pyarrow as pa

from contracts.errors import ImageError
from imagedata.containers.archive_stream import ArchiveStream, BrokenArchiveError
from imagedata.containers.parquet import ParquetImages
from imagedata.containers.zip_archive import ZipEntry, read_zip_member
from imagedata.decoding.decode import MAX_FILE_BYTES

SEPARATOR = "::"
"""Between a container's path and the name within it, as in ``shard-0001.tar::cat.jpg``."""


class Container(NamedTuple):
    """A file that holds images, as it was when the run was planned.

    Attributes:
        path: where it lies.
        kind: ``parquet``, ``zip``, ``tar``, or a compressed tar's compression: ``gz``, ``bz2``, ``xz`` or
            ``zst``.
        size: bytes.
        changed_ns: time of its last change, nanoseconds since 1970.
        column: of a parquet file, the column that holds the bytes.
    """

    path: str
    kind: str
    size: int
    changed_ns: int
    column: str = ""

    @classmethod
    def at(cls, path: str, kind: str, column: str = "") -> Container:
        """Describe the file at ``path``.

        Raises:
            OSError: it has gone or cannot be looked at.
        """
        facts = os.stat(path)  # noqa: PTH116 - strings throughout, as in the plan
        return cls(path, kind, facts.st_size, facts.st_mtime_ns, column)


class ContainedImage(NamedTuple):
    """Where an image lies within its container.

    Attributes:
        container: the file around it.
        offset: first byte of its content, in a compressed tar counted after decompression; in a zip archive
            first byte of its header; in a parquet file the row's number, from 0.
        size: bytes; 0 in a parquet file, where the row itself says it.
        problem: why it cannot be used, found when the container was indexed; empty where it can.
        entry: in a zip archive, how it is stored; else None.
    """

    container: Container
    offset: int
    size: int
    problem: str = ""
    entry: ZipEntry | None = None


class ContainerReader:
    """Reads packed images; keeps the last container open, because the next image is most often its next.

    One per process. Forgetting to close it costs a file handle, no more.
    """

    def __init__(self) -> None:
        self._container: Container | None = None
        self._open: _Opened | None = None

    def read(self, image: ContainedImage) -> bytes:
        """The whole content of one image file.

        Raises:
            ImageError: it was refused when the container was indexed, or the container has gone, has
                changed since, or is damaged there.
        """
        if image.problem:
            raise ImageError(image.problem)
        if image.size > MAX_FILE_BYTES:
            raise ImageError(f"file has {image.size:,} bytes; the limit is {MAX_FILE_BYTES:,}.")
        try:
            if self._open is None or self._container != image.container:
                self.close()
                self._open, self._container = _open(image.container), image.container
            data = self._open.read(image)
        except BrokenArchiveError as error:
            self.close()
            raise ImageError(f"its archive {error}.") from error
        except (OSError, pa.ArrowException) as error:
            self.close()
            reason = (str(error).splitlines() or [""])[0] if isinstance(error, pa.ArrowException) else None
            reason = reason or getattr(error, "strerror", None) or str(error)
            raise ImageError(f"cannot be read: {reason[:200].rstrip('.')}.") from error
        if not data:
            raise ImageError("file is empty (0 bytes).")
        return data

    def close(self) -> None:
        """Close what is open."""
        if self._open is not None:
            self._open.close()
            self._open = None


class _Opened(Protocol):
    """An opened container."""

    def read(self, image: ContainedImage) -> bytes:
        """The bytes of one of its images."""

    def close(self) -> None:
        """Close the file."""


class _Archive:
    """A tar archive, read forwards; going back means opening it again.

    A process gets its images in the order of the plan, so each compressed archive is decompressed once per
    process.
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        self._stream = ArchiveStream(container.path, container.kind)

    def read(self, image: ContainedImage) -> bytes:
        if image.offset < self._stream.tell():
            self._stream.close()
            self._stream = ArchiveStream(self._container.path, self._container.kind)
        self._stream.seek(image.offset)
        data = self._stream.read_block(image.size)
        if len(data) < image.size:
            raise BrokenArchiveError(f"ends within it, after {len(data):,} of {image.size:,} bytes")
        return data

    def close(self) -> None:
        self._stream.close()


class _Zip:
    """A zip archive, whose members are read in any order; its directory is not read again."""

    def __init__(self, container: Container) -> None:
        self._file = open(container.path, "rb")  # noqa: SIM115, PTH123 - closed in close()

    def read(self, image: ContainedImage) -> bytes:
        assert image.entry is not None
        return read_zip_member(self._file, image.offset, image.size, image.entry, image.size)

    def close(self) -> None:
        self._file.close()


class _Table:
    """A column of a parquet file; the offset of an image is its row."""

    def __init__(self, container: Container) -> None:
        self._images = ParquetImages(container.path, container.column)

    def read(self, image: ContainedImage) -> bytes:
        data = self._images.read(image.offset)
        if data is None:
            raise ImageError("its row holds no bytes.")
        if len(data) > MAX_FILE_BYTES:
            raise ImageError(f"file has {len(data):,} bytes; the limit is {MAX_FILE_BYTES:,}.")
        return data

    def close(self) -> None:
        self._images.close()


def _open(container: Container) -> _Opened:
    """Open a container that is still the one that was planned.

    Raises:
        ImageError: it is another one now; offsets into the old one would give anything.
        OSError: it has gone.
    """
    if Container.at(container.path, container.kind, container.column) != container:
        raise ImageError("the file around it has changed since the run was planned; give the command again.")
    if container.kind == "parquet":
        return _Table(container)
    return _Zip(container) if container.kind == "zip" else _Archive(container)
