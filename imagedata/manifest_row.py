"""One image of a data set, as the manifest keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imagedata.layouts.listed_image import Split

Status = Literal["ok", "broken", "excluded", "dropped"]


# Split of a row: of a listed image, "augmented" of a changed copy of a training image, or "added" of an
# image that a trained run was updated with, which stands in no manifest.
RowSplit = Split | Literal["augmented", "added"]


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One image of a data set.

    Attributes:
        path: relative to the set's root; of an augmented copy, to the folder of all augmented copies.
        label: class name.
        group: rows of equal groups never part between folds or splits.
        split: ``train``, ``test``, or ``augmented``: a changed copy of a training image, which
            only whoever asks for it by this name gets to see.
        sha256: of the file's bytes.
        width: stored width in pixels.
        height: stored height in pixels.
        mode: stored pixel type.
        status: ``ok``; ``broken`` (cannot be decoded); ``excluded`` (would leak or contradict);
            ``dropped`` (left out on purpose, to make the imbalance).
        reason: why the status is not ``ok``.
        source: path of the image that an augmented copy was made of; None for every other row.
        subtype: a finer name than the class, such as the kind of a defect; recorded, and decides nothing
            but which anomalies are moved into training.
        mask: path, relative to the set's root, of the picture that shows where the anomaly is; nothing is
            trained on it.
        listed_label: the class that the data set gives the image, where a person corrected it to ``label``
            (:mod:`imagedata.audit.corrections`); else None.
    """

    path: str
    label: str
    group: str
    split: RowSplit
    sha256: str
    width: int
    height: int
    mode: str
    status: Status
    reason: str
    source: str | None = None
    subtype: str | None = None
    mask: str | None = None
    listed_label: str | None = None
