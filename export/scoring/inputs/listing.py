"""From what stands on a command line to images: files, folders, patterns, lists, archives and tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import DataError, UsageError, nearest_match
from export.scoring.inputs.archives import index_archive
from export.scoring.inputs.patterns import has_wildcard, is_folder, matches
from export.scoring.inputs.tables import ImageTable, open_table
from export.scoring.plan import absolute, printable_path
from imagedata.containers.archive import ARCHIVE_SUFFIXES
from imagedata.containers.reader import SEPARATOR, ContainedImage
from imagedata.decoding.formats import IMAGE_SUFFIXES
from imagedata.file_names import (
    ending_of,
    is_image_by_content,
    is_image_name,
    is_junk,
    of_other_endings,
)

_TABLE_SUFFIX = ".parquet"


@dataclass(frozen=True)
class FoundImages:
    """The images of a run.

    Attributes:
        paths: every image once, in the order of the plan: text order, and within an archive or a table its
            own order. Plain strings, because a million :class:`~pathlib.Path` objects weigh several times
            as much.
        packed: path → place, of the images within archives and tables; their paths read ``archive::name``.
        left_out: ending → files that hold images and are not scored, as their names do not end like images'.
    """

    paths: list[str]
    packed: dict[str, ContainedImage]
    left_out: dict[str, int]


def find_images(
    paths: Sequence[Path], list_file: Path | None = None, path_column: str | None = None
) -> FoundImages:
    """Turn files, folders, patterns, archives, tables and a list file into the images to score.

    Folders are searched through all their subfolders for :data:`imagedata.decoding.formats.IMAGE_SUFFIXES`,
    in either case; each folder is visited once, however many symbolic links lead to it. Junk is passed over
    (:mod:`imagedata.file_names`); images under another ending are counted. A file that is
    named is scored whatever its ending, and so is each line of a list; a line whose file has gone since
    the list was made becomes a failed row, like any other unreadable image.

    Args:
        paths: files and folders; patterns such as ``parts/**/*.jpg`` where no such file exists; tar and zip
            archives (:data:`~imagedata.containers.archive.ARCHIVE_SUFFIXES`) and parquet files, by their
            endings.
        list_file: text file of one path or pattern per line, relative to the folder that the list lies in.
        path_column: column of parquet files that holds paths (relative to the file's own folder) or image
            files; see :func:`export.scoring.inputs.tables.open_table`.

    Raises:
        UsageError: a path does not exist, a pattern fits nothing, or nothing was named.
        DataError: there is no image, or a folder cannot be read.
    """
    if not paths and list_file is None:
        raise UsageError("nothing to score was named. Give files, folders or --list FILE.")
    search = _Search(path_column)
    for path in paths:
        text = os.fspath(path)
        if os.path.lexists(text):
            search.add(text)
        elif has_wildcard(text):
            fitting = list(matches(text))
            if not fitting:
                raise UsageError(
                    f"pattern '{printable_path(text)}' fits no file here. '**' stands for any folders; "
                    "quote the pattern, so that the shell hands it on."
                )
            search.add_matches(text, fitting)
        else:
            raise _no_such_path(path)
    if list_file is not None:
        search.add_list(list_file)
    found = search.found()
    if not found.paths:
        others = f" {of_other_endings(found.left_out)}." if found.left_out else ""
        looked_in = ", ".join([str(path) for path in paths] + ([str(list_file)] if list_file else []))
        raise DataError(
            f"no image found in {looked_in}: looked for files ending in "
            f"{' '.join(sorted(IMAGE_SUFFIXES))}.{others} "
            "Name files of another ending, archives and tables one by one, by a pattern or with --list FILE."
        )
    return found


class _Search:
    """What was found so far. The absolute name decides what is the same file; the shortest way there is not
    for us to choose, so the table shows each path as it was first given.
    """  # noqa: D205

    def __init__(self, path_column: str | None) -> None:
        self._path_column = path_column
        self._shown: dict[str, str] = {}
        self._within: dict[str, dict[str, ContainedImage]] = {}
        # By absolute name, as two of the paths given may lead to the same file or folder.
        self._other_images: dict[str, str] = {}
        self._in_archives: Counter[str] = Counter()

    def add(self, path: str, *, tables: bool = True) -> None:
        """Take up one path, whatever lies there; nothing there is a failed row later.

        Args:
            path: as given.
            tables: whether a parquet file is read as a table; not within one, which might name itself.
        """
        lower = path.lower()
        if os.path.isdir(path):  # noqa: PTH112 - strings throughout, see FoundImages
            for file in _files_in(path):
                self._add_found(file)
            return
        if absolute(path) in self._shown:
            return
        is_there = lower.endswith((*ARCHIVE_SUFFIXES, _TABLE_SUFFIX)) and os.path.isfile(path)  # noqa: PTH113
        if is_there and lower.endswith(ARCHIVE_SUFFIXES):
            self._add_packed(path, index_archive(path, self._in_archives))
        elif is_there and tables:
            table = open_table(path, self._path_column)
            if table.holds_bytes:
                self._add_packed(path, _rows_of(table))
            else:
                self._add_listed("table", path, table.paths(), patterns=False)
        else:
            self._shown.setdefault(absolute(path), path)

    def add_matches(self, pattern: str, found: Sequence[str]) -> None:
        """Take up what fits a pattern: every file where it names an ending, else images only."""
        ending = os.path.splitext(os.path.basename(pattern))[1]  # noqa: PTH119, PTH122
        named = bool(ending) and not has_wildcard(ending)
        for path in found:
            if named or is_image_name(path) or os.path.isdir(path):  # noqa: PTH112
                self.add(path)
            else:
                self._add_found(path)

    def add_list(self, list_file: Path) -> None:
        """Take up the lines of a list.

        Raises:
            UsageError: the list is missing, or not one of its lines names something that exists.
        """
        try:
            text = list_file.read_bytes().decode("utf-8-sig", errors="surrogateescape")
        except FileNotFoundError:
            raise _no_such_path(list_file) from None
        except OSError as error:
            raise UsageError(
                f"list {list_file} cannot be read: {error.strerror}. Give a text file with one path per line."
            ) from error
        if "\0" in text:
            raise UsageError(f"list {list_file} holds zero bytes. Give a text file with one path per line.")
        lines = (line.rstrip("\r") for line in text.split("\n"))
        self._add_listed(
            "list", os.fspath(list_file), (line for line in lines if line.strip()), patterns=True
        )

    def found(self) -> FoundImages:
        """Everything in the order of the plan."""
        left_out = Counter(self._in_archives)
        # A file that was passed over in a folder may have been named as well.
        left_out.update(end for path, end in self._other_images.items() if path not in self._shown)
        images = FoundImages([], {}, dict(sorted(left_out.items())))
        for path in sorted(self._shown.values()):
            within = self._within.get(path)
            if within is None:
                images.paths.append(path)
            else:
                images.paths.extend(within)
                images.packed.update(within)
        return images

    def _add_found(self, path: str) -> None:
        """Take up a file that was found, not named: only if it is named like an image."""
        if is_image_name(path):
            self._shown.setdefault(absolute(path), path)
        elif not is_junk(os.path.basename(path)) and is_image_by_content(path):  # noqa: PTH119
            self._other_images[absolute(path)] = ending_of(path)

    def _add_listed(self, what: str, file: str, lines: Iterator[str], *, patterns: bool) -> None:
        """Take up paths that are relative to the folder of the file that names them."""
        folder = os.path.dirname(file)  # noqa: PTH120
        first, any_exists, count = "", False, 0
        for line in lines:
            entry = os.path.join(folder, line)  # noqa: PTH118
            count, first = count + 1, first or entry
            if os.path.lexists(entry):
                any_exists = True
            elif patterns and has_wildcard(line) and (fitting := list(matches(line, folder))):
                any_exists = True
                self.add_matches(line, fitting)
                continue
            self.add(entry, tables=patterns)
        if count and not any_exists:
            raise UsageError(
                f"{what} {file}: none of {count} paths exists, such as {printable_path(first)}. "
                f"Paths in a {what} are relative to the {what}'s own folder, {folder or '.'}."
            )

    def _add_packed(self, path: str, images: Iterator[tuple[str, ContainedImage]]) -> None:
        """Take up the images within a file; what concerns the file itself is a row of its own name."""
        self._shown[absolute(path)] = path
        self._within[path] = {f"{path}{SEPARATOR}{name}" if name else path: image for name, image in images}


def _rows_of(table: ImageTable) -> Iterator[tuple[str, ContainedImage]]:
    container = table.container()
    return ((str(row), ContainedImage(container, row, 0)) for row in range(table.rows))


def _files_in(folder: str) -> Iterator[str]:
    """Yield the files of a folder and its subfolders, without junk; links followed, no folder twice."""
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
                entries = sorted(
                    (entry for entry in listing if not is_junk(entry.name)), key=lambda entry: entry.name
                )
        except OSError as error:
            raise DataError(
                f"folder {printable_path(current)} cannot be read: {error.strerror}. "
                "Make it readable, or name the other folders instead."
            ) from error
        for entry in entries:
            if is_folder(entry):
                waiting.append(entry.path)
            else:
                yield entry.path


def _no_such_path(path: Path) -> UsageError:
    """The error about a missing path; it names a neighbour of a similar name."""
    try:
        neighbours = [child.name for child in path.parent.iterdir()]
    except OSError:
        neighbours = []
    return UsageError(
        f"{printable_path(str(path))} does not exist.{nearest_match(path.name, neighbours)} "
        "Give files, folders or --list FILE."
    )
