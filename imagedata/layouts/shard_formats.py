"""Readers of single shards: encoded images with labels out of a parquet file or a tar file.

A shard is hostile until it is read: sizes are checked before anything is taken, and nothing is unpacked.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from contracts.errors import DataError, nearest_match
from imagedata.decoding.decode import IMAGE_SUFFIXES, MAX_FILE_BYTES

MOST_EXPANSION = 50
"""A shard may hold at most this many times its own bytes: encoded images hardly shrink any further."""

_TAR_END = 1024

SPARE_BYTES = 1 << 26
"""What a shard may hold beside that: small files of plain pictures do shrink."""


@dataclass(frozen=True)
class Sample:
    """One image of a shard.

    Attributes:
        data: the encoded image, as it is.
        label: as written; a number as its digits.
        group: as written; None where the layout names none.
    """

    data: bytes
    label: str
    group: str | None


def _refuse(path: Path, what: str) -> DataError:
    return DataError(f"{path}: {what}. Get the file again, from someone you trust.")


# ---- parquet


def parquet_samples(path: Path, image: str, label: str, group: str | None) -> Iterator[Sample]:
    """Images of a parquet file, a few rows at a time.

    Args:
        path: the file.
        image: column of bytes, or of structs with the fields ``bytes`` and ``path`` as Hugging Face's
            ``datasets`` writes images.
        label: column of numbers or text.
        group: column of the patient or lot, or None.

    Raises:
        DataError: unreadable, without one of the columns, or its pages claim far more than the file can hold.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [image, label, *([group] if group else [])]
    try:
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            for column in columns:
                if column not in known:
                    raise DataError(
                        f"{path}: it has no column '{column}', only {', '.join(known)}."
                        f"{nearest_match(column, known)} Name it with -o layout.image=..., layout.label=... "
                        "or layout.group=..."
                    )
            meta = file.metadata
            claimed = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
            if claimed > MOST_EXPANSION * path.stat().st_size + SPARE_BYTES:
                raise _refuse(path, f"it claims to hold {claimed:,} bytes, far more than its size allows")
            for batch in file.iter_batches(batch_size=32, columns=columns):
                for row in batch.to_pylist():
                    yield Sample(
                        _image_bytes(path, row[image]),
                        _text(path, label, row[label]),
                        _text(path, group, row[group]) if group else None,
                    )
    except (OSError, pa.ArrowException) as error:
        raise _refuse(path, f"not readable as parquet: {str(error)[:200]}") from error


def parquet_labels(path: Path, label: str) -> Iterator[str]:
    """Labels of a parquet file, without its images.

    Raises:
        DataError: unreadable, or without that column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            if label not in known:
                raise DataError(
                    f"{path}: it has no column '{label}', only {', '.join(known)}."
                    f"{nearest_match(label, known)} Name it in a YAML spec, with layout.label."
                )
            for batch in file.iter_batches(columns=[label]):
                for cell in batch.column(0).to_pylist():
                    yield _text(path, label, cell)
    except (OSError, pa.ArrowException) as error:
        raise _refuse(path, f"not readable as parquet: {str(error)[:200]}") from error


def parquet_class_names(path: Path, label: str) -> list[str]:
    """Names that Hugging Face's metadata gives to the labels 0, 1, …; empty where it gives none.

    Raises:
        DataError: not a parquet file.
    """
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise _refuse(path, f"not readable as parquet: {str(error)[:200]}") from error
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _image_bytes(path: Path, cell: Any) -> bytes:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise _refuse(path, "its column of images holds no bytes; pictures stored elsewhere cannot be read")
    return data


def _text(path: Path, column: str, cell: Any) -> str:
    if cell is None or str(cell) == "":
        raise _refuse(path, f"its column '{column}' has empty cells")
    return str(cell)


# ---- webdataset


def tar_samples(path: Path, image: str | None, label: str, group: str | None) -> Iterator[Sample]:
    """Images of a webdataset shard: members that share a name up to its first dot are one sample.

    Args:
        path: a ``.tar``, ``.tar.gz`` or ``.tgz`` file.
        image: ending of the image's member, such as ``jpg``; None takes any ending of an image.
        label: ending of the member that holds the label as text.
        group: ending of the member that holds the patient or lot, or None.

    Raises:
        DataError: unreadable or cut off, a sample that lacks a part, or a hostile member: an absolute name,
            one with ``..``, a link or device, or a content far larger than the file.
    """
    key, parts = "", dict[str, bytes]()
    for name, data in _members(path):
        folder, _, file_name = name.rpartition("/")
        stem, _, ending = file_name.partition(".")
        if f"{folder}/{stem}" != key:
            if parts:
                yield _sample(path, key, parts, image, label, group)
            key, parts = f"{folder}/{stem}", {}
        parts[ending.lower()] = data
    if parts:
        yield _sample(path, key, parts, image, label, group)


def _sample(
    path: Path, key: str, parts: dict[str, bytes], image: str | None, label: str, group: str | None
) -> Sample:
    endings = [image] if image else [ending for ending in parts if f".{ending}" in IMAGE_SUFFIXES]
    wanted = {"an image": endings[0] if endings else "", "its label": label, "its group": group}
    for what, ending in wanted.items():
        if ending is not None and ending not in parts:
            raise DataError(
                f"{path}: sample {key.strip('/')!a} lacks {what}; it has the endings "
                f"{', '.join(ascii(each) for each in parts)}. Name them with -o layout.image=..., "
                "layout.label=... or layout.group=..."
            )
    texts = []
    for ending in (label, group):
        try:
            texts.append(parts[ending].decode("utf-8").strip() if ending else None)
        except UnicodeDecodeError as error:
            raise _refuse(path, f"sample {key.strip('/')!a} has a {ending} that is no text") from error
    return Sample(parts[endings[0]], texts[0] or "", texts[1])


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file of a tar, every one looked at before it is read."""
    try:
        size = path.stat().st_size
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            allowed = MOST_EXPANSION * size + SPARE_BYTES
            if not zipped:
                # A tar ends in two blocks of zeros; cut off between two members, it would pass for whole.
                raw.seek(max(0, size - _TAR_END))
                if raw.read() != bytes(_TAR_END):
                    raise _refuse(path, "cut off: it does not end as a tar file does")
                raw.seek(0)
            source = _Limited(gzip.GzipFile(fileobj=raw), allowed, path) if zipped else raw
            with tarfile.open(fileobj=source, mode="r|") as archive:
                for member in archive:
                    _require_harmless(path, member)
                    if member.isfile():
                        content = archive.extractfile(member)
                        data = content.read() if content is not None else b""
                        if len(data) != member.size:
                            raise _refuse(path, f"cut off in {member.name!a}")
                        yield member.name, data
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise _refuse(path, f"not a whole tar file: {str(error)[:200]}") from error


def _require_harmless(path: Path, member: tarfile.TarInfo) -> None:
    name = member.name
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
        raise _refuse(path, f"it holds the absolute name {name!a}")
    if ".." in PurePosixPath(name).parts or ".." in PureWindowsPath(name).parts:
        raise _refuse(path, f"it holds the name {name!a}, which leads out of a folder")
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise _refuse(path, f"{name!a} in it is a link or a device, not a file")
    if member.size > MAX_FILE_BYTES:
        raise _refuse(path, f"{name!a} in it claims {member.size:,} bytes")


class _Limited(io.RawIOBase):
    """A stream that ends in an error once it has given more bytes than a shard may hold."""

    def __init__(self, source: IO[bytes] | gzip.GzipFile, allowed: int, path: Path) -> None:
        self._source, self._left, self._path = source, allowed, path

    def read(self, size: int = -1) -> bytes:
        """Read at most ``size`` bytes; the whole rest is never asked for."""
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _refuse(self._path, "it unpacks to far more than its size allows")
        return data
