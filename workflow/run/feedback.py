"""Feedback images, which ``update`` adds to a trained run: what they are, and where their copies lie.

``added.json`` in the run folder names them by the digest of their bytes, and ``added/`` keeps a copy of
each file, so that the originals may be deleted and a later training can score the images again. All that an
update changes follows from the set of these images, whatever the order and number of updates. Deleting
``added.json`` takes every update back: ``ensemble`` then fits again without them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from contracts.files import digest_of, read_json, write_json
from imagedata.groups import group_of_path
from imagedata.manifest_row import ManifestRow
from imagedata.spec import DataSpec

FILE, FOLDER = "added.json", "added"
_FORMAT = 1


@dataclass(frozen=True)
class FeedbackImage:
    """One feedback image.

    Attributes:
        sha256: of the file's bytes.
        label: class name, as the user states it.
        given: path that it was given by, absolute.
        path: the same below the folder that was given; a group rule reads it.
        name: of the copy, in the folder :data:`FOLDER`.
        width: stored width in pixels.
        height: stored height in pixels.
        mode: stored pixel type.
        update: number of the update that added it, from 0.
    """

    sha256: str
    label: str
    given: str
    path: str
    name: str
    width: int
    height: int
    mode: str
    update: int


@dataclass(frozen=True)
class FeedbackImages:
    """All feedback images of a run.

    Attributes:
        rows: one per image, in the order of the updates.
        replaced: SHA-256 of the model file that each update replaced.
    """

    rows: tuple[FeedbackImage, ...] = ()
    replaced: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of which images carry which label, whatever the order; empty where there are none."""
        return digest_of(sorted([row.sha256, row.label] for row in self.rows)) if self.rows else ""

    def write(self, folder: Path) -> None:
        """Write ``added.json`` into a run folder, completely or not at all."""
        document = {
            "format": _FORMAT,
            # Guards against edits by hand, which would leave scores of images that are no longer listed.
            "digest": self.digest,
            "replaced": list(self.replaced),
            "rows": [asdict(row) for row in self.rows],
        }
        write_json(folder / FILE, document)

    @classmethod
    def read(cls, folder: Path) -> FeedbackImages:
        """Read what :meth:`write` wrote; nothing where no update was made.

        Raises:
            ModelError: the file was edited or is of a newer version.
        """
        path = folder / FILE
        if not path.exists():
            return cls()
        try:
            document: dict[str, Any] = read_json(path)
            rows = tuple(FeedbackImage(**row) for row in document["rows"])
            added = cls(rows, tuple(document["replaced"]))
            is_whole = document["format"] == _FORMAT and document["digest"] == added.digest
        except (ValueError, KeyError, TypeError):
            is_whole = False
        if not is_whole:
            raise ModelError(
                f"{path}: it does not match its own digest, or is of another version. Restore it, or delete "
                "it to undo all updates of this run, and run the ensemble command."
            )
        return added

    def usable(
        self, spec: DataSpec, train: Sequence[ManifestRow], test: Sequence[ManifestRow]
    ) -> tuple[list[ManifestRow], dict[str, str]]:
        """Images that may still be used beside a run's own rows, sorted by digest, and why others may not.

        A run may be trained again on images that were feedback before: those are training rows now, and no
        longer new to the members.

        Returns:
            Rows of split ``added``, and path as given → reason for those left out.
        """
        guard = RowGuard(spec, train, test)
        rows, reasons = [], {}
        # By digest, not by update: the same set of images must give the same ensemble in whatever order it
        # came.
        for row in sorted(self.rows, key=lambda row: row.sha256):
            reason = guard.objection(row.path, row.sha256)
            if reason:
                reasons[row.given] = reason
                continue
            rows.append(
                ManifestRow(
                    path=f"{FOLDER}/{row.name}",
                    label=row.label,
                    group=guard.group_of(row.path, row.sha256),
                    split="added",
                    sha256=row.sha256,
                    width=row.width,
                    height=row.height,
                    mode=row.mode,
                    status="ok",
                    reason="",
                )
            )
        return rows, reasons


class RowGuard:
    """Decides whether a new image may be used beside a run's rows.

    A member's score of a new image is valid only if the member never saw the image or its group. Figures of
    the test set are valid only if nothing of its images or groups was fitted on.

    Where nobody has labelled the data set, its own images may be given with their labels: they take the place
    of their unlabelled rows (:func:`workflow.run.prepared.training_rows`), in the groups of these.

    Args:
        spec: the data set.
        train: usable training rows of the data set itself.
        test: usable test rows.
    """

    def __init__(self, spec: DataSpec, train: Sequence[ManifestRow], test: Sequence[ManifestRow]) -> None:
        self._rule = spec.group
        self._column = spec.layout.groups_column
        self._unlabelled = {row.sha256: row.group for row in train} if spec.unlabelled and not test else {}
        self._known: dict[str, str] = {}
        self._groups: dict[str, str] = {}
        for what, rows in (("training", train), ("test", test)):
            self._known.update({row.sha256: f"the same file as the {what} image {row.path}" for row in rows})
            self._groups.update({row.group: what for row in rows})

    def group_of(self, path: str, sha256: str) -> str:
        """The group by the data set's rule, empty if it finds none; without a rule each file is a group."""
        if sha256 in self._unlabelled:
            return self._unlabelled[sha256]
        if self._rule is None:
            return sha256
        return group_of_path(self._rule, path)

    def objection(self, path: str, sha256: str) -> str:
        """Why the image may not be added; empty if it may."""
        if sha256 in self._unlabelled:
            return ""
        if sha256 in self._known:
            return self._known[sha256]
        if self._column is not None:
            return (
                f"the groups of this data set are in its column '{self._column}'; add the image there and "
                "train again"
            )
        group = self.group_of(path, sha256)
        if not group:
            return f"the data set's group rule '{self._rule}' finds no group in its path"
        if group in self._groups:
            what = self._groups[group]
            return f"group {group} has {what} images; put it into the data set and train again"
        return ""


def folds_of_feedback(rows: Sequence[ManifestRow], n_folds: int) -> npt.NDArray[np.int64]:
    """``[n]`` fold of each feedback image; it follows from the group alone, so more images move none."""
    hashes = [hashlib.sha256(f"added|{row.group}".encode()).hexdigest() for row in rows]
    # The first 32 bits of the hash are uniform enough to deal groups out evenly.
    return np.array([int(each[:8], 16) % n_folds for each in hashes], dtype=np.int64)
