"""What the watch says of a batch: drift, share of the minority, and what each of them rests on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from export.scoring.watch.batch import BatchCounts
from export.scoring.watch.drift import FALSE_ALARMS, Change, drift
from export.scoring.watch.reference import WatchReference
from export.scoring.watch.share import LEAST_IMAGES, LEVEL, Estimate, Share, estimate_share

NOT_IN_FILE = (
    "What comes in is not compared with training: this file was made before there was such a watch. Give "
    "'ensemble' or 'export' again."
)

MOST_KNOWN = 0.05
"""Share of training images in a batch from which on it is not compared: their scores are optimistic."""

_NAMED = 3


@dataclass(frozen=True)
class BatchWatch:
    """The watch over one batch.

    Attributes:
        images: scored images that were counted.
        known: of these, images that the model was trained on.
        changes: every watched quantity, most changed first; empty where nothing was compared.
        share: of the minority.
        by_class: whether a changed share of the minority was allowed for.
        minority: its name.
        skipped: why nothing was compared; empty where it was.
    """

    images: int
    known: int
    changes: tuple[Change, ...]
    share: Share
    by_class: bool
    minority: str
    skipped: str = ""

    @property
    def alarm(self) -> bool:
        """Whether the images themselves have changed."""
        return any(change.alarm for change in self.changes)

    @property
    def alarms(self) -> tuple[Change, ...]:
        """Quantities that raise an alarm, most changed first."""
        return tuple(change for change in self.changes if change.alarm)

    @property
    def sentences(self) -> tuple[str, ...]:
        """For people: one or two."""
        if self.skipped:
            return (self.skipped,)
        return (self._of_drift(), share_sentence(self.share, self.minority))

    def _of_drift(self) -> str:
        if not self.alarm:
            return (
                f"Compared with training, these {self.images:,} images have not changed ({len(self.changes)} "
                f"quantities; in batches without a change, at most {FALSE_ALARMS:.0%} raise an alarm)."
            )
        named = "; ".join(map(described, self.alarms[:_NAMED]))
        more = len(self.alarms) - _NAMED
        and_more = f"; and {more} more" if more > 0 else ""
        besides = (
            ""
            if self.by_class
            else f" Or {self.minority} has become more frequent, which is not told apart here."
        )
        return (
            f"These {self.images:,} images are not like those of training: {named}{and_more}. "
            f"Scores may no longer hold. Without a change, at most {FALSE_ALARMS:.0%} of batches raise "
            f"this alarm.{besides}"
        )

    def to_json(self) -> dict[str, Any]:
        """Of the JSON documents of ``score`` and ``monitor``."""
        return {
            "images": self.images,
            "known": self.known,
            "compared": not self.skipped,
            "alarm": self.alarm,
            "false_alarms": FALSE_ALARMS,
            "changes": [change.to_json() for change in self.changes],
            "share": self.share.to_json(),
            "sentences": list(self.sentences),
        }


def watch_batch(reference: WatchReference, batch: BatchCounts, known: int = 0) -> BatchWatch:
    """Compare a batch with training.

    Args:
        reference: of the file.
        batch: counts of its scored images.
        known: images of the batch that the model was trained on.
    """
    skipped = ""
    if batch.images < LEAST_IMAGES:
        skipped = (
            f"{batch.images:,} scored images are too few to be compared with training; "
            f"{LEAST_IMAGES} are needed."
        )
    elif known > MOST_KNOWN * batch.images:
        skipped = (
            f"These images are not compared with training: {known:,} of {batch.images:,} are training images."
        )
    if skipped:
        nothing = Share(None, skipped)
        return BatchWatch(batch.images, known, (), nothing, reference.by_class, reference.minority, skipped)
    share = estimate_share(reference, batch.log_odds)
    changes = tuple(drift(reference, batch, share.possible))
    if share.figure is not None and any(change.alarm for change in changes):
        why_not = "the images themselves have changed, so scores may mean something else."
        share = replace(share, figure=None, why_not=why_not)
    return BatchWatch(batch.images, known, changes, share, reference.by_class, reference.minority)


def share_sentence(share: Share, minority: str) -> str:
    """The share of the minority, or why there is none."""
    if share.figure is None:
        return f"Share of {minority}: not estimated; {share.why_not}"
    return f"Estimated share of {minority}: {shown(share.figure)}."


def shown(estimate: Estimate) -> str:
    """A share and its interval, for people."""
    return f"{estimate.value:.1%} ({LEVEL:.0%} interval {estimate.low:.1%} to {estimate.high:.1%})"


def described(change: Change) -> str:
    """A quantity that has changed, with its medians, or how much of the batch differs."""
    if f"{change.median:.3g}" == f"{change.usual:.3g}":
        return f"{change.title} spreads otherwise ({change.distance:.0%} of the images)"
    way = "higher" if change.median > change.usual else "lower"
    return f"{change.title} is {way} (median {change.median:.3g}, in training {change.usual:.3g})"
