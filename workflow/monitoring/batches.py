"""Folders of scores as ``score`` left them, and what the watch says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import DataError, UsageError
from contracts.files import read_json
from export.scoring.output import WATCH_NAME
from export.scoring.watch.batch import BatchCounts
from export.scoring.watch.reference import WatchReference
from export.scoring.watch.verdict import BatchWatch, watch_batch


@dataclass(frozen=True)
class Batch:
    """One folder of scores.

    Attributes:
        folder: where it lies.
        scored: when, as ISO 8601 in UTC.
        model: SHA-256 of the model file.
        reference: what that file keeps of training.
        counts: of its images.
        known: images that the model was trained on.
        prior: the estimated share that was applied; None for none.
    """

    folder: Path
    scored: str
    model: str
    reference: WatchReference
    counts: BatchCounts
    known: int
    prior: float | None

    @property
    def watch(self) -> BatchWatch:
        """The watch over this batch."""
        return watch_batch(self.reference, self.counts, self.known)


def read_batches(scores: Sequence[Path]) -> list[Batch]:
    """Folders in the order of time.

    Args:
        scores: folders that ``score`` wrote, or folders of such folders.

    Raises:
        UsageError: a folder holds none, or they are of different models.
        DataError: one is damaged.
    """
    folders = dict.fromkeys(each for given in scores for each in _folders_in(given))
    batches = sorted((_read(folder) for folder in folders), key=lambda batch: (batch.scored, batch.folder))
    models = {batch.model: batch.folder for batch in batches}
    if len(models) > 1:
        first, second = list(models.values())[:2]
        raise UsageError(
            f"monitor: {first} and {second} were scored by different model files, whose scores are not to be "
            "compared. Give the folders of one model."
        )
    return batches


def together(batches: Sequence[Batch]) -> BatchWatch:
    """The watch over all batches as one."""
    counts = BatchCounts.none_of(batches[0].reference)
    for batch in batches:
        counts = counts + batch.counts
    return watch_batch(batches[0].reference, counts, sum(batch.known for batch in batches))


def _folders_in(given: Path) -> list[Path]:
    if (given / WATCH_NAME).is_file():
        return [given]
    found = sorted(child.parent for child in given.glob(f"*/{WATCH_NAME}")) if given.is_dir() else []
    if not found:
        raise UsageError(
            f"monitor: {given} is no folder of scores with a {WATCH_NAME}, nor does it hold one. Give "
            "folders that 'score' wrote with a file made by this version."
        )
    return found


def _read(folder: Path) -> Batch:
    path = folder / WATCH_NAME
    try:
        document: dict[str, Any] = read_json(path)
        if document["format"] != 1:
            raise UsageError(
                f"{path}: format {document['format']}, but 1 expected. Score these images again."
            )
        prior = document["prior"]
        return Batch(
            folder,
            str(document["scored"]),
            str(document["model"]),
            WatchReference.from_json(document["reference"]),
            BatchCounts.from_json(document["counts"]),
            int(document["known"]),
            None if prior is None else float(prior),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}). Give the same 'score' command again.") from error
