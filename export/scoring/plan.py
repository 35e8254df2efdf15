"""From paths on a command line to shards: which images, in which order, in which part file.

A shard's id is a digest of everything that decides its scores, so that a rerun recognises what is
finished, and results of another model, setting or set of images are never taken for its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import DataError, UsageError, nearest_match
from contracts.files import digest_of
from imagedata.decode import IMAGE_SUFFIXES

DEFAULT_SHARD_SIZE = 256
"""Images a part file. Work lost to a crash is at most one shard a process."""

Override = float | tuple[float, ...] | None
"""Prior or threshold in place of the file's own: one number for two classes, one a class for more."""


@dataclass(frozen=True)
class Shard:
    """A unit of work: some images that become one part file.

    Attributes:
        id: 16 hex characters, a digest of model, settings and paths.
        paths: the images, in the order of their rows.
    """

    id: str
    paths: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """Name of the part file within the output folder."""
        return f"part-{self.id}.parquet"


@dataclass(frozen=True)
class ScoreSettings:
    """What decides the scores beside the pixels.

    Attributes:
        model_sha256: hex digest of the model file.
        decode: the model's decode settings as JSON facts.
        prior: override of the file's prior; None for the file's own.
        threshold: override of the file's threshold; None for the file's own.
        runtime: what computes the graph; runtimes agree within a limit, not to the bit.
    """

    model_sha256: str
    decode: dict[str, Any]
    prior: Override = None
    threshold: Override = None
    runtime: str = "onnxruntime"

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON facts."""
        return {
            "model_sha256": self.model_sha256,
            "decode": self.decode,
            "prior": self.prior,
            "threshold": self.threshold,
            "runtime": self.runtime,
        }


def make_shards(paths: Sequence[str], settings: ScoreSettings, shard_size: int) -> list[Shard]:
    """Cut the images into shards of ``shard_size``; the last may be smaller.

    Args:
        paths: image files, sorted.
        settings: what decides the scores.
        shard_size: images a shard, at least 1.
    """
    settings_digest = digest_of(settings.to_json())
    shards = []
    for start in range(0, len(paths), shard_size):
        members = tuple(paths[start : start + shard_size])
        # File names are bytes, not text: a digest of the text would fail on names that are not UTF-8.
        # Absolute, so that "photos" in one folder is not taken for "photos" in another.
        named = b"\0".join(os.fsencode(_absolute(path)) for path in members)
        digest = hashlib.sha256(settings_digest.encode() + b"\0" + named).hexdigest()[:16]
        shards.append(Shard(digest, members))
    return shards


def expand_paths(paths: Sequence[Path], list_file: Path | None = None) -> list[str]:
    """Turn files, folders and a list file into the images to score.

    Folders are searched through all their subfolders for :data:`imagedata.decode.IMAGE_SUFFIXES`, in
    either case; each folder is visited once, however many symbolic links lead to it. A file that is
    named is scored whatever its ending, and so is each line of a list; a line whose file has gone since
    the list was made becomes a failed row, like any other unreadable image.

    Args:
        paths: files and folders.
        list_file: text file of one path a line, relative to the folder that the list lies in.

    Returns:
        Paths in text order, each file name once. They are plain strings because a million
        :class:`~pathlib.Path` objects weigh several times as much.

    Raises:
        UsageError: a path does not exist, or nothing was named.
        DataError: there is no image, or a folder cannot be read.
    """
    if not paths and list_file is None:
        raise UsageError("nothing to score was named. Give files, folders or --list FILE.")
    # The absolute name decides what is the same file; the shortest way there is not for us to choose,
    # so the table shows each path as it was first given.
    found: dict[str, str] = {}
    for path in paths:
        text = os.fspath(path)
        if os.path.isdir(text):  # noqa: PTH112 - strings throughout, see Returns
            images: Iterator[str] = _images_in(text)
        elif os.path.lexists(text):
            images = iter([text])
        else:
            raise _no_such_path(path)
        for image in images:
            found.setdefault(_absolute(image), image)
    if list_file is not None:
        for image in _images_listed(list_file):
            found.setdefault(_absolute(image), image)
    if not found:
        looked_in = ", ".join([str(path) for path in paths] + ([str(list_file)] if list_file else []))
        raise DataError(
            f"no image found in {looked_in}: looked for files ending in {' '.join(sorted(IMAGE_SUFFIXES))}. "
            "Name files of another ending one by one or with --list FILE."
        )
    return sorted(found.values())


def _images_in(folder: str) -> Iterator[str]:
    """Yield the images of a folder and its subfolders, symbolic links followed, no folder twice."""
    visited: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            facts = os.stat(current)  # noqa: PTH116
            identity = (facts.st_dev, facts.st_ino)
            if identity in visited:
                continue
            visited.add(identity)
            with os.scandir(current) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(
                f"folder {printable_path(current)} cannot be read: {error.strerror}. "
                "Make it readable, or name the other folders instead."
            ) from error
        for entry in entries:
            if _is_folder(entry):
                waiting.append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
                yield entry.path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """True for folders and links to folders; a link to itself is neither file nor folder."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _images_listed(list_file: Path) -> Iterator[str]:
    """Yield the paths of a list file, folders expanded.

    Raises:
        UsageError: the list is missing, or not one of its lines names something that exists.
    """
    try:
        text = list_file.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except FileNotFoundError:
        raise _no_such_path(list_file) from None
    except OSError as error:
        raise UsageError(
            f"list {list_file} cannot be read: {error.strerror}. Give a text file of one path a line."
        ) from error
    lines = [line.rstrip("\r") for line in text.split("\n")]
    entries = [os.path.join(list_file.parent, line) for line in lines if line.strip()]  # noqa: PTH118
    if "\0" in text:
        raise UsageError(f"list {list_file} holds zero bytes. Give a text file of one path a line.")
    if entries and not any(os.path.lexists(entry) for entry in entries):
        raise UsageError(
            f"list {list_file}: none of {len(entries)} paths exists, such as {printable_path(entries[0])}. "
            f"Paths in a list are relative to the list's own folder, {list_file.parent}."
        )
    for entry in entries:
        if os.path.isdir(entry):  # noqa: PTH112
            yield from _images_in(entry)
        else:
            yield entry


def _absolute(path: str) -> str:
    """The absolute name, links not followed: two names of one file are two rows, as the user named two."""
    return os.path.abspath(path)  # noqa: PTH100


def printable_path(path: str) -> str:
    """A path as text that can be printed and stored: bytes that are not UTF-8 become escapes."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _no_such_path(path: Path) -> UsageError:
    """Say what is missing and what lies beside it under a similar name."""
    try:
        neighbours = [child.name for child in path.parent.iterdir()]
    except OSError:
        neighbours = []
    return UsageError(
        f"{printable_path(str(path))} does not exist.{nearest_match(path.name, neighbours)} "
        "Give files, folders or --list FILE."
    )
