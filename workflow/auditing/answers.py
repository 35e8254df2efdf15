"""What people answered for listed images: read from a list, checked as a whole, kept beside the data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import DataError, UsageError, nearest_match
from contracts.text import number_of, printable
from imagedata.audit.corrections import Correction, Corrections
from imagedata.layouts.image_list import LIST_SUFFIXES
from imagedata.layouts.lists.table import read_list
from imagedata.manifest import Manifest
from imagedata.manifest_row import ManifestRow

ANSWERS = ("wrong", "right", "unsure")
"""Of the column ``answer``, which the page writes: whether the label that training saw is wrong or right."""


@dataclass(frozen=True)
class Confirmed:
    """What a list of answers says.

    Attributes:
        answers: for distinct images.
        unsure: images for which nothing is kept.
        test: of the answers, those for images of the test set.
    """

    answers: tuple[Correction, ...]
    unsure: int
    test: int

    @property
    def corrected(self) -> int:
        """Images whose label is another than the data set's."""
        return sum(each.changes for each in self.answers)


def read_answers(path: Path, manifest: Manifest) -> Confirmed:
    """Read a list of answers; one that cannot be taken as a whole is refused as a whole.

    The list has a column ``label`` with the class that is right, and names images in a column ``path``, as
    in the manifest or absolute, or in a column ``sha256``. A column ``answer`` may say ``unsure``.

    Raises:
        UsageError: there is no such file, or it is no list.
        DataError: columns are missing, or a row names no image of the run, no class, or contradicts another.
    """
    if not path.is_file() or path.suffix.lower() not in LIST_SUFFIXES:
        what = "no such file" if not path.is_file() else "no list"
        raise UsageError(
            f"--confirm {path}: {what}. Name one ({', '.join(LIST_SUFFIXES)}) with the columns path and "
            "label, or the answers that the page of the audit saved."
        )
    images = _Images(manifest)
    answers: dict[str, Correction] = {}
    rows: dict[str, ManifestRow] = {}
    unsure = 0
    for where, cells in _cells(path):
        row = images.of(cells, where)
        if _answer(cells, row, where) == "unsure":
            unsure += 1
            continue
        label = _class(cells["label"], manifest.class_names, where)
        found = Correction(row.sha256, printable(row.path), label, row.listed_label or row.label)
        first = answers.setdefault(row.sha256, found)
        if first.label != label:
            raise DataError(
                f"{where}: {found.path} is called {label}, but {first.label} in a row before. Keep one of "
                "them."
            )
        rows[row.sha256] = row
    test = sum(row.split == "test" for row in rows.values())
    return Confirmed(tuple(answers.values()), unsure, test)


def _cells(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row by the names of its columns, and where it stands."""
    table = read_list(path)
    table.require_columns(path, ["label"])
    if not {"path", "sha256"} & set(table.columns):
        raise DataError(f"{path}: it has neither a column path nor a column sha256. Add one of them.")
    if not table.rows:
        raise DataError(f"{path}: the list has no rows. Write one row per image.")
    for number, cells in table.rows:
        where = f"{path}, line {number}"
        if len(cells) != len(table.columns):
            wanted = number_of(len(table.columns), "column")
            raise DataError(f"{where}: {number_of(len(cells), 'cell')} for {wanted}. Fix it.")
        yield where, dict(zip(table.columns, cells, strict=True))


def _answer(cells: Mapping[str, str], row: ManifestRow, where: str) -> str:
    answer = cells.get("answer", "").strip().lower()
    if answer and answer not in ANSWERS:
        raise DataError(f"{where}: the answer is '{answer}', not one of {', '.join(ANSWERS)}. Fix it.")
    if answer == "wrong" and cells["label"].strip() == row.label:
        raise DataError(
            f"{where}: the label of {printable(row.path)} is said to be wrong, but {row.label} is given as "
            "the right one as well. Write the class that is right."
        )
    return answer


def _class(given: str, names: tuple[str, ...], where: str) -> str:
    label = given.strip()
    if label not in names:
        raise DataError(
            f"{where}: '{label}' is no class; the classes are {', '.join(names)}."
            f"{nearest_match(label, names)} Fix the row."
        )
    return label


class _Images:
    """The images of a run by digest and by path."""

    def __init__(self, manifest: Manifest) -> None:
        rows = [row for row in manifest.rows if row.split != "augmented" and row.sha256]
        self._root = manifest.root
        self._by_path = {row.path: row for row in rows}
        # Of equal files the one that is used speaks for all.
        self._by_digest = {row.sha256: row for row in sorted(rows, key=lambda row: row.status == "ok")}

    def of(self, cells: Mapping[str, str], where: str) -> ManifestRow:
        digest, path = (cells.get(name, "").strip() for name in ("sha256", "path"))
        found = self._by_digest.get(digest) if digest else self._by_path.get(self._relative(path))
        if found is None:
            raise DataError(
                f"{where}: the run has no image {printable(digest or path)}; paths are those below "
                f"{self._root}. Fix the row."
            )
        return found

    def _relative(self, path: str) -> str:
        if Path(path).is_absolute() and Path(path).is_relative_to(self._root):
            return Path(path).relative_to(self._root).as_posix()
        return path


def keep_answers(path: Path, confirmed: Confirmed) -> Corrections:
    """Add answers to those on file, and return all of them."""
    kept = Corrections.read(path).with_answers(confirmed.answers)
    kept.write(path)
    return kept
