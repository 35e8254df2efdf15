"""In which order people look at images: where an answer helps most, and near copies once.

1. NOVEL (like neither class, perhaps a new kind) and REVIEW (may be of either), the least certain first.
2. All others by the same measure: the log-odds nearest to the threshold, or without probabilities the
   smallest p_normal.
3. Near copies of what comes before them or was answered already.
4. What was skipped, the longest ago first.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from service.answers import Answers
from service.likeness import NearCopies
from service.records import Scored

_MOST = 1000
"""Images that are put in order at a time; the others wait behind them."""


@dataclass(frozen=True)
class Asked:
    """An image to be looked at.

    Attributes:
        scored: what the model said.
        why: in a few words, why it comes now.
    """

    scored: Scored
    why: str


class ReviewQueue:
    """The order, made again where something was scored or answered since.

    Args:
        answers: the store.
        threshold: of the probability; None where the file has none.
    """

    def __init__(self, answers: Answers, threshold: float | None) -> None:
        self._answers, self._threshold = answers, threshold
        self._lock = threading.Lock()
        self._made_at = -1
        self._near = NearCopies()
        self._order: list[Asked] = []

    def order(self) -> list[Asked]:
        """Images that wait, the most urgent first; at most 1,000."""
        with self._lock:
            changes = self._answers.changes
            if changes != self._made_at:
                self._order = self._made()
                self._made_at = changes
            return self._order

    def _made(self) -> list[Asked]:
        threshold = 0.5 if self._threshold is None else self._threshold
        waiting = self._answers.waiting(threshold, _MOST)
        skipped = {entry.image: entry.number for entry in self._answers.current() if entry.answer == "skip"}
        waiting.sort(key=lambda row: (row.triage not in ("REVIEW", "NOVEL"), *_certainty(row, threshold)))
        answered = {e.image for e in self._answers.current() if e.answer not in ("skip", "unsure")}
        lately = [row for row in self._answers.latest_scores(most=_MOST) if row.image in answered]
        copies_of = self._near.of([*lately, *waiting])
        # By pairs and not by chains of them: a film's first and last picture are no copies.
        seen = {row.image for row in lately}
        first, copies, later = [], [], []
        for row in waiting:
            if row.image in skipped:
                later.append(Asked(row, "skipped before"))
            elif seen & copies_of.get(row.image, set()):
                copies.append(Asked(row, "a near copy of an image before it"))
            else:
                first.append(Asked(row, _why(row)))
                seen.add(row.image)
        later.sort(key=lambda asked: skipped[asked.scored.image])
        return [*first, *copies, *later]


def _certainty(row: Scored, threshold: float) -> tuple[float, int]:
    """Smaller = less certain; equal ones in the order in which they came."""
    if row.triage == "NOVEL":
        return (-1.0, row.number)
    if row.probability is None:
        return (1.0 if row.p_normal is None else row.p_normal, row.number)
    return (abs(_log_odds(row.probability) - _log_odds(threshold)), row.number)


def _log_odds(p: float) -> float:
    p = min(max(p, 1e-6), 1.0 - 1e-6)
    return math.log(p / (1.0 - p))


def _why(row: Scored) -> str:
    if row.triage == "NOVEL":
        return "like neither class"
    if row.triage == "REVIEW":
        return "may be of either class"
    return "the least like normal images" if row.probability is None else "the least certain of the rest"
