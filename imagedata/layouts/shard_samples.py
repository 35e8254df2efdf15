"""Samples of single shards: encoded images with labels out of a parquet, tar or zip file.

A shard is hostile until it is read: sizes are checked before anything is taken, and nothing is unpacked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import DataError, nearest_match
from imagedata.containers.archive import members_of
from imagedata.containers.archive_stream import BrokenArchiveError
from imagedata.containers.parquet import (
    BrokenTableError,
    image_of_cell,
    parquet_rows,
    parquet_schema,
    require_plausible_size,
)
from imagedata.containers.reader import Container
from imagedata.decoding.decode import MAX_FILE_BYTES
from imagedata.decoding.formats import IMAGE_SUFFIXES
from imagedata.file_names import is_junk_path

_GZIP, _ZIP = b"\x1f\x8b", b"PK"


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
    columns = [image, label, *([group] if group else [])]
    with _told_of(path):
        _require_columns(
            path, columns, "Name it with -o layout.image=..., layout.label=... or layout.group=..."
        )
        require_plausible_size(path)
        for row in parquet_rows(path, columns, of_images=True):
            data = image_of_cell(row[image])
            if data is None:
                raise _refuse(
                    path, "its column of images holds no bytes; pictures stored elsewhere cannot be read"
                )
            text = _text(path, label, row[label])
            yield Sample(data, text, _text(path, group, row[group]) if group else None)


def parquet_labels(path: Path, label: str) -> Iterator[str]:
    """Labels of a parquet file, without its images.

    Raises:
        DataError: unreadable, or without that column.
    """
    with _told_of(path):
        _require_columns(path, [label], "Name it in a YAML spec, with layout.label.")
        for row in parquet_rows(path, [label]):
            yield _text(path, label, row[label])


def parquet_class_names(path: Path, label: str) -> list[str]:
    """Names that Hugging Face's metadata gives to the labels 0, 1, …; empty where it gives none.

    Raises:
        DataError: not a parquet file.
    """
    with _told_of(path):
        metadata = parquet_schema(path).metadata or {}
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenTableError as error:
        raise _refuse(path, f"not readable as parquet: {error}") from error


def _require_columns(path: Path, columns: list[str], advice: str) -> None:
    known = parquet_schema(path).names
    for column in columns:
        if column not in known:
            raise DataError(
                f"{path}: it has no column '{column}', only {', '.join(known)}."
                f"{nearest_match(column, known)} {advice}"
            )


def _text(path: Path, column: str, cell: Any) -> str:
    if cell is None or str(cell) == "":
        raise _refuse(path, f"its column '{column}' has empty cells")
    return str(cell)


# ---- webdataset


def tar_samples(path: Path, image: str | None, label: str, group: str | None) -> Iterator[Sample]:
    """Images of a webdataset shard: members whose names agree up to the first dot are one sample.

    Args:
        path: a ``.tar``, ``.tar.gz``, ``.tgz`` or ``.zip`` file.
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


def is_zip_shard(path: Path) -> bool:
    """Whether a zip archive holds samples with labels, and not, say, the class folders that lie beside it.

    False for what is damaged: a folder is no data set of shards because of it.
    """
    try:
        return any(each.name.lower().endswith(".cls") for each in members_of(Container.at(str(path), "zip")))
    except (OSError, BrokenArchiveError):
        return False


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
    """Name and content of each file of an archive, every one checked before it is read."""
    try:
        with path.open("rb") as handle:
            start = handle.read(len(_GZIP))
        kind = {_GZIP: "gz", _ZIP: "zip"}.get(start, "tar")
        for member in members_of(Container.at(str(path), kind)):
            size, problem = member.place.size, member.place.problem
            if not problem and size > MAX_FILE_BYTES:
                problem = f"claims {size:,} bytes; the limit is {MAX_FILE_BYTES:,}."
            if problem:
                raise _refuse(path, f"{member.name!a} in it {problem.rstrip('.')}")
            if is_junk_path(member.name):
                continue
            data = member.first_bytes(size)
            if len(data) < size:
                raise _refuse(path, f"cut off within {member.name!a}")
            yield member.name, data
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}. Make it readable.") from error
    except BrokenArchiveError as error:
        raise _refuse(path, f"the archive {error}") from error
