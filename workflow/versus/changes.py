"""What differs between the rows of two files: decisions, triage and probabilities, image by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workflow.versus.images import KnownImage
from workflow.versus.scoring import Said

_LARGEST = 10


@dataclass(frozen=True)
class Pair:
    """The same images as both files see them; those that either could not score are left out.

    Attributes:
        images: N of them.
        old: what the old file says of them.
        new: what the new one says.
        places: ``[N]`` rows of ``old`` and ``new`` that they stand in.
    """

    images: Sequence[KnownImage]
    old: Said
    new: Said
    places: npt.NDArray[np.int64]

    @classmethod
    def of(cls, images: Sequence[KnownImage], old: Said, new: Said) -> Pair:
        """Those of the images that both files scored."""
        both = [i for i in range(len(images)) if old.error[i] is None and new.error[i] is None]
        return cls([images[i] for i in both], old, new, np.array(both, dtype=np.int64))

    @property
    def quantity(self) -> str:
        """What is compared as a number: the probability, or p_normal where either file gives none."""
        return "probability" if self.old.has_probability and self.new.has_probability else "p_normal"

    @property
    def has_triage(self) -> bool:
        """Whether both files say what becomes of an image."""
        return all(any(each is not None for each in said.triage) for said in (self.old, self.new))

    def numbers(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """``[N]`` and ``[N]`` of the quantity, before and after."""
        name = "p" if self.quantity == "probability" else "p_normal"
        before, after = (np.asarray(getattr(said, name))[self.places] for said in (self.old, self.new))
        return before, after

    def words(self, what: str) -> list[tuple[str, str]]:
        """``decision`` or ``triage`` of each image, before and after."""
        return [
            (str(getattr(self.old, what)[i]), str(getattr(self.new, what)[i])) for i in self.places.tolist()
        ]


def changes_of(pair: Pair) -> dict[str, Any]:
    """Counts of changed decisions and triage, by kind and by group, and the largest changes of the number."""
    return {
        "quantity": pair.quantity,
        "decision": _counted(pair.words("decision")),
        "triage": _counted(pair.words("triage")) if pair.has_triage else None,
        "by_kind": _by(pair, lambda image: f"{image.label}: {image.kind}" if image.kind else image.label),
        "by_group": _by(pair, lambda image: image.group),
        "largest": _largest(pair),
    }


def changed_rows(pair: Pair) -> list[dict[str, Any]]:
    """The images whose decision or triage changed, in their order, with all that both files say of them."""
    decisions = pair.words("decision")
    triage = pair.words("triage") if pair.has_triage else [("", "")] * len(decisions)
    return [
        row_of(pair, place)
        for place, (decided, sorted_) in enumerate(zip(decisions, triage, strict=True))
        if decided[0] != decided[1] or sorted_[0] != sorted_[1]
    ]


def row_of(pair: Pair, place: int) -> dict[str, Any]:
    """One image as a flat document; None where a file does not say it or nobody knows it."""
    image, at = pair.images[place], int(pair.places[place])
    row: dict[str, Any] = {
        "path": image.path,
        "label": image.label or None,
        "kind": image.kind or None,
        "group": image.group or None,
    }
    for name in ("decision", "triage"):
        row |= {f"{name}_old": getattr(pair.old, name)[at], f"{name}_new": getattr(pair.new, name)[at]}
    for name, column in (("p", "probability"), ("p_normal", "p_normal")):
        for said, when in ((pair.old, "old"), (pair.new, "new")):
            value = float(getattr(said, name)[at])
            row[f"{column}_{when}"] = None if np.isnan(value) else value
    return row


def _counted(words: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """How many changed, and each pair of before and after, the most frequent change first."""
    counts = Counter(words)
    ordered = sorted(counts.items(), key=lambda item: (item[0][0] == item[0][1], -item[1], item[0]))
    return {
        "changed": sum(count for (old, new), count in counts.items() if old != new),
        "images": len(words),
        "pairs": [{"old": old, "new": new, "images": count} for (old, new), count in ordered],
    }


def _by(pair: Pair, name_of: Callable[[KnownImage], str]) -> list[dict[str, Any]]:
    """Changes in each kind or group; none where no image has one."""
    names = [name_of(image) for image in pair.images]
    if not any(names):
        return []
    decisions = pair.words("decision")
    triage = pair.words("triage") if pair.has_triage else None
    before, after = pair.numbers()
    found = []
    for name in sorted(set(names)):
        of_name = [place for place, each in enumerate(names) if each == name]
        change = (after - before)[of_name]
        found.append(
            {
                "name": name or None,
                "images": len(of_name),
                "decision_changed": sum(decisions[i][0] != decisions[i][1] for i in of_name),
                "triage_changed": None
                if triage is None
                else sum(triage[i][0] != triage[i][1] for i in of_name),
                "mean_change": None if np.isnan(change).all() else float(np.nanmean(change)),
            }
        )
    # Where most changed stands first; names break ties, so that the order is always the same.
    return sorted(found, key=lambda each: (-each["decision_changed"], each["name"] or ""))


def _largest(pair: Pair) -> list[dict[str, Any]]:
    before, after = pair.numbers()
    size = np.nan_to_num(np.abs(after - before), nan=0.0)
    order = np.argsort(-size, kind="stable")[:_LARGEST].tolist()
    return [{**row_of(pair, i), "change": float(after[i] - before[i])} for i in order if size[i] > 0.0]
