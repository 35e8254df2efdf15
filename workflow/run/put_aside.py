"""Labelled images that never train, kept with a run to judge its model files by.

There are two such sets. The **golden set** is chosen by hand, with the command ``golden``. Answers that
``apply`` **holds back** are drawn from what people answered. Each is a list in the run folder,
``golden.json`` or ``held_back.json``, which names images by digest, and a folder of copies.
``update`` refuses an image that is in either or nearly the same picture: figures on it would otherwise say
how well a file remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from contracts.errors import DataError, ModelError
from contracts.files import digest_of, read_json, write_json
from imagedata.audit.families import near_copies_among
from imagedata.manifest_row import ManifestRow

What = Literal["golden", "held_back"]
SETS: tuple[What, ...] = ("golden", "held_back")
GOLDEN_FILE = "golden.json"

_FORMAT = 1
_WORDS = {"golden": "in the golden set", "held_back": "among the answers that are held back"}
_OF = {"golden": "of the golden set", "held_back": "among the answers that are held back"}


@dataclass(frozen=True)
class AsideImage:
    """One image that never trains.

    Attributes:
        sha256: of the file's bytes.
        label: class name.
        kind: a finer name than the class; empty where there is none.
        group: patient, lot or folder; empty where there is none.
        given: path that it was given by, absolute.
        name: of the copy, in the folder of the set.
    """

    sha256: str
    label: str
    kind: str
    group: str
    given: str
    name: str


@dataclass(frozen=True)
class PutAside:
    """One of the two sets of a run.

    Attributes:
        folder: of the run.
        what: which set.
        rows: one per image, in the order in which they were added.
    """

    folder: Path
    what: What
    rows: tuple[AsideImage, ...] = ()

    @property
    def file(self) -> Path:
        """The list."""
        return self.folder / f"{self.what}.json"

    @property
    def copies(self) -> Path:
        """The folder of copies."""
        return self.folder / self.what

    @property
    def digest(self) -> str:
        """Of which images carry which label, whatever the order; empty where there are none."""
        return digest_of(sorted([row.sha256, row.label] for row in self.rows)) if self.rows else ""

    def file_of(self, row: AsideImage) -> Path:
        """The kept copy of an image."""
        return self.copies / row.name

    def write(self) -> None:
        """Write the list, completely or not at all."""
        rows = [asdict(row) for row in self.rows]
        write_json(self.file, {"format": _FORMAT, "digest": self.digest, "rows": rows})

    @classmethod
    def read(cls, folder: Path, what: What) -> PutAside:
        """Read what :meth:`write` wrote; an empty set where there is none.

        Raises:
            ModelError: the file was edited or is of another version.
        """
        empty = cls(folder, what)
        if not empty.file.exists():
            return empty
        try:
            document: dict[str, Any] = read_json(empty.file)
            found = cls(folder, what, tuple(AsideImage(**row) for row in document["rows"]))
            is_whole = document["format"] == _FORMAT and document["digest"] == found.digest
        except (ValueError, KeyError, TypeError):
            is_whole = False
        if not is_whole:
            raise ModelError(
                f"{empty.file}: it does not match its own digest, or is of another version. Restore it, or "
                "delete it: its images may then train."
            )
        return found

    def objections(
        self, files: Sequence[Path], sha256s: Sequence[str], window: tuple[float, float] | None
    ) -> list[str]:
        """Why images may not train, one sentence per image; empty where an image may.

        Args:
            files: N images.
            sha256s: N digests of their bytes.
            window: of 16-bit images, as for training.
        """
        if not self.rows:
            return ["" for _ in files]
        of_digest = {row.sha256: row for row in self.rows}
        others = [i for i, sha256 in enumerate(sha256s) if sha256 not in of_digest]
        copies = near_copies_among([files[i] for i in others], [*map(self.file_of, self.rows)], window)
        found = [
            f"it is {_WORDS[self.what]} ({of_digest[sha256].given}), which never trains"
            if sha256 in of_digest
            else ""
            for sha256 in sha256s
        ]
        for i, place in zip(others, copies, strict=True):
            if place is not None:
                found[i] = (
                    f"it is nearly the same picture as {self.rows[place].given} {_OF[self.what]}, which "
                    "never trains"
                )
        return found

    def require_untrained(self, rows: Sequence[ManifestRow]) -> None:
        """Refuse training rows that are in the set.

        Raises:
            DataError: names the first one.
        """
        of_digest = {row.sha256: row for row in self.rows}
        for row in rows:
            if row.sha256 in of_digest:
                raise DataError(
                    f"{row.path} is {_WORDS[self.what]} of {self.folder} ({of_digest[row.sha256].given}), "
                    "which never trains. Take it out of the data set, or give the golden set up with "
                    "golden --remove."
                )


def objections_of_all(
    folder: Path, files: Sequence[Path], sha256s: Sequence[str], window: tuple[float, float] | None
) -> list[str]:
    """:meth:`PutAside.objections` of both sets of a run."""
    found = [PutAside.read(folder, what).objections(files, sha256s, window) for what in SETS]
    return [next(filter(None, each), "") for each in zip(*found, strict=True)]
