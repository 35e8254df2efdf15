"""Labels that people corrected, on file beside the runs; images and lists of the user's stay as they are.

``RUNS/corrections/DATA_SET.csv`` has one row per image that a person answered for, and is meant to be read
and kept under version control: what the image is, the label that is right, and the label that the data set
gives it. Rows in which both agree say that a person looked and found the label right. An image is known by
the SHA-256 of its bytes, so the file holds wherever the data set lies and however its files are called.
Deleting a row, or the file, takes the correction back.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from contracts.errors import DataError, nearest_match
from contracts.files import write_text
from imagedata.layouts.listed_image import ListedImage

_COLUMNS = ("sha256", "path", "label", "listed")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Correction:
    """What a person said of one image.

    Attributes:
        sha256: of the file's bytes.
        path: relative to the data set's root when it was answered; for people.
        label: the class that is right.
        listed: the class that the data set gives it.
    """

    sha256: str
    path: str
    label: str
    listed: str

    @property
    def changes(self) -> bool:
        """Whether the label is another than the data set's."""
        return self.label != self.listed


@dataclass(frozen=True)
class Corrections:
    """All answers for a data set.

    Attributes:
        of_file: SHA-256 → answer.
    """

    of_file: Mapping[str, Correction] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Corrections:
        """Read a file of corrections; none where it does not exist.

        Raises:
            DataError: it was edited into something that cannot be read.
        """
        if not path.exists():
            return cls()
        try:
            rows = list(
                csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""), strict=True)
            )
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(
                f"{path}: corrected labels cannot be read: {error}. Restore or delete it."
            ) from None
        found: dict[str, Correction] = {}
        for number, row in enumerate(rows, start=2):
            values = {name: row.get(name) for name in _COLUMNS}
            sha256, shown, label, listed = (values[name] or "" for name in _COLUMNS)
            if not _SHA256.fullmatch(sha256) or not label or not listed or sha256 in found:
                raise DataError(
                    f"{path}: entry {number - 1} is no corrected label ({', '.join(_COLUMNS)}), or its image "
                    "stands there twice. Fix it, or delete the file to take all corrections back."
                )
            found[sha256] = Correction(sha256, shown, label, listed)
        return cls(found)

    def write(self, path: Path) -> None:
        """Write all of them, sorted by path, whole or not at all."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for each in sorted(self.of_file.values(), key=lambda each: (each.path, each.sha256)):
            writer.writerow([each.sha256, each.path, each.label, each.listed])
        write_text(path, text.getvalue())

    def with_answers(self, answers: Iterable[Correction]) -> Corrections:
        """These and new answers; of one image the newer one holds."""
        return Corrections({**self.of_file, **{each.sha256: each for each in answers}})

    @property
    def changing(self) -> int:
        """Images whose label is corrected."""
        return sum(each.changes for each in self.of_file.values())

    def label_of(self, sha256: str, listed: str) -> str:
        """The right label of an image that the data set calls ``listed``."""
        found = self.of_file.get(sha256)
        return listed if found is None else found.label

    def require_classes(self, path: Path, class_names: Sequence[str]) -> None:
        """Check that every label is a class.

        Args:
            path: of the file, for the message.
            class_names: of the data set as it is asked for now.

        Raises:
            DataError: one is not.
        """
        for each in self.of_file.values():
            if each.label not in class_names:
                raise DataError(
                    f"{path}: {each.path} is corrected to '{each.label}', but the classes are "
                    f"{', '.join(class_names)}.{nearest_match(each.label, class_names)} Fix the row, or "
                    "delete it."
                )

    def applied(
        self, images: Sequence[ListedImage], sha256_of: Callable[[ListedImage], str]
    ) -> list[ListedImage]:
        """The images with corrected labels; what was said of a wrong label's kind and mask goes with it.

        Args:
            images: as listed.
            sha256_of: digest of an image's bytes; empty where it cannot be read.
        """
        if not self.of_file:
            return list(images)
        found = []
        for image in images:
            label = self.label_of(sha256_of(image), image.label)
            is_right = label == image.label
            found.append(image if is_right else _corrected(image, label))
        return found


def _corrected(image: ListedImage, label: str) -> ListedImage:
    return replace(image, label=label, listed_label=image.label, subtype=None, mask=None)


def corrections_file(own: Path, name: str, stated: str | None) -> Path:
    """Where the corrected labels of a data set are kept.

    Args:
        own: folder for files of our own, ``--runs``.
        name: of the data set.
        stated: the spec's ``corrections``; takes the place of ours.
    """
    return own / "corrections" / f"{name}.csv" if stated is None else Path(stated)
