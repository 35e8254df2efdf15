"""What came in, day by day: share of the minority, drift, answers, and whether probabilities hold.

The watch that ``score`` keeps over a batch (:mod:`export.scoring.watch`) is kept here over each day, from the
rows of the store alone. Picture facts are not in these rows, so drift is that of the scores: of each member
and of the ensemble's log-odds. Only rows of the file in use are compared, because scores of different files
are not to be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from export.scoring.model import ScoringModel
from export.scoring.watch.batch import BatchCounts, log_odds_in_training
from export.scoring.watch.calibration import LEAST_ANSWERS, CalibrationWatch, watch_calibration
from export.scoring.watch.reference import LOG_ODDS, WatchReference, bin_counts, fine_counts, reference_of
from export.scoring.watch.verdict import BatchWatch, watch_batch
from service.answers import Answers
from service.applying import TEACHING
from service.records import Scored

DAYS = 60
"""Days that are shown."""


@dataclass(frozen=True)
class Day:
    """One day of UTC.

    Attributes:
        date: ``2026-12-01``.
        images: scored on it, by whatever file.
        minority: of these, decided to be of the minority.
        triage: PASS, FAIL, REVIEW and NOVEL → images.
        answers: answer → how many were given on it.
        watch: over the rows of the file in use; None without such rows, or where the file keeps nothing of
            training.
    """

    date: str
    images: int
    minority: int
    triage: dict[str, int]
    answers: dict[str, int]
    watch: BatchWatch | None


@dataclass(frozen=True)
class OverTime:
    """What the page shows.

    Attributes:
        days: with an image or an answer, in the order of time.
        cameras: all that images came from.
        together: the watch over all days as one; None as for a day.
        calibration: over answered images, in the order of the answers; None where there are too few.
        answered: images that it could stand on.
        no_watch: why nothing is compared with training; empty where it is.
    """

    days: list[Day]
    cameras: list[str]
    together: BatchWatch | None
    calibration: CalibrationWatch | None
    answered: int
    no_watch: str


def over_time(answers: Answers, model: ScoringModel, digest: str, camera: str | None = None) -> OverTime:
    """Gather the last days.

    Args:
        answers: the store.
        model: in use.
        digest: of its file.
        camera: camera, lot or folder that is looked at alone; None for all.
    """
    since = (datetime.now(UTC) - timedelta(days=DAYS)).date().isoformat()
    rows = answers.scores(since)
    cameras = sorted({row.camera for row in rows})
    rows = [row for row in rows if camera is None or row.camera == camera]
    scored = {row.image for row in rows}
    given = [
        entry
        for entry in answers.history()
        if entry.answer != "undo" and entry.when >= since and (camera is None or entry.image in scored)
    ]
    reference = _of_scores(reference_of(model.document))
    of_day: dict[str, list[Scored]] = {}
    for row in rows:
        of_day.setdefault(row.when[:10], []).append(row)
    answered_on = Counter((entry.when[:10], entry.answer) for entry in given)
    days = []
    for date in sorted({*of_day, *(each[0] for each in answered_on)}):
        mine = of_day.get(date, [])
        days.append(
            Day(
                date,
                len(mine),
                sum(row.decision == model.minority for row in mine),
                dict(Counter(row.triage for row in mine if row.triage)),
                {answer: count for (day, answer), count in answered_on.items() if day == date},
                _watch(reference, model, [row for row in mine if row.model == digest]),
            )
        )
    own = [row for row in rows if row.model == digest]
    calibration, answered = _calibration(answers, own)
    no_watch = (
        "" if reference else "The file in use keeps nothing of training that scores could be compared with."
    )
    return OverTime(days, cameras, _watch(reference, model, own), calibration, answered, no_watch)


def _of_scores(reference: WatchReference | None) -> WatchReference | None:
    """A reference without picture facts, which the store does not keep; None where nothing is left of it."""
    if reference is None:
        return None
    kept = tuple(
        each for each in reference.quantities if each.name.startswith("score_") or each.name == LOG_ODDS
    )
    return replace(reference, quantities=kept) if kept else None


def _watch(
    reference: WatchReference | None, model: ScoringModel, rows: Sequence[Scored]
) -> BatchWatch | None:
    if reference is None or not rows:
        return None
    columns: dict[str, Any] = {
        f"score_{name}": np.array([row.members[name] for row in rows]) for name in model.members
    }
    log_odds = None
    if model.has_probability and len(model.classes) == 2:
        p = np.array([row.probability for row in rows], dtype=np.float32)
        log_odds = log_odds_in_training(p, None, model.document)
        columns[LOG_ODDS] = log_odds
    there = tuple(each for each in reference.quantities if each.name in columns)
    reference = replace(reference, quantities=there)
    counts = BatchCounts(
        tuple(bin_counts(each.edges, columns[each.name]) for each in there),
        fine_counts([] if log_odds is None else log_odds),
        len(rows),
    )
    return watch_batch(reference, counts)


def _calibration(answers: Answers, rows: Sequence[Scored]) -> tuple[CalibrationWatch | None, int]:
    """The CUSUM over answered images, each by what was said of it before anybody answered."""
    first: dict[str, Scored] = {}
    for row in rows:
        first.setdefault(row.image, row)
    told = []
    for entry in answers.current():
        said = first.get(entry.image)
        # Said afterwards, it may be by a file that was taught with this very answer.
        is_valid = entry.answer in TEACHING and said is not None and said.when <= entry.when
        if is_valid and said is not None and said.probability is not None:
            told.append((said.probability, entry.answer == "minority"))
    if len(told) < LEAST_ANSWERS:
        return None, len(told)
    p, is_minority = (np.array(each) for each in zip(*told, strict=True))
    return watch_calibration(p.astype(np.float64), is_minority.astype(np.bool_)), len(told)
