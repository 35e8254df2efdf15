"""The way of every image: its bytes to a worker, its scores to the store, a FAIL or NOVEL to the webhook."""

from __future__ import annotations

import asyncio
import hashlib
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from contracts.errors import DataError
from service.answers import Answers
from service.engine.pool import Pool
from service.engine.work import Judged
from service.metrics import Metrics
from service.records import Scored, now
from service.webhook import Webhook

Keep = Literal["review", "all", "none"]
"""Which images that came over HTTP are kept: those that need eyes, all of them, or none."""

_NEEDS_EYES = (None, "REVIEW", "NOVEL", "FAIL")


@dataclass(frozen=True)
class Arrival:
    """One image as it came.

    Attributes:
        data: the file's bytes.
        name: as it came; hostile text.
        source: ``dropped``, ``http`` or ``watched``.
        camera: camera, lot or folder; hostile text, may be empty.
        place: path in a watched folder.
    """

    data: bytes
    name: str
    source: str
    camera: str = ""
    place: Path | None = None


@dataclass(frozen=True)
class Judge:
    """The file that judges: its workers, its digest, and what holds while it is in use.

    Attributes:
        pool: workers that have it loaded.
        model: hex SHA-256 of the file.
        levels: error rates, prior and threshold, for the record.
    """

    pool: Pool
    model: str
    levels: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of it: its digest, its scores or the reason why there are none, and by which file."""

    arrival: Arrival
    image: str
    judged: Judged
    by: Judge


@dataclass
class _Record:
    outcomes: Sequence[Outcome]
    done: Future[None] = field(default_factory=Future)


class Intake:
    """Scores what arrives and records it.

    Args:
        pool: who scores.
        answers: the store.
        metrics: what is counted.
        model: hex SHA-256 of the model's file.
        levels: error rates, prior and threshold that hold, for the record.
        keep: which images that came over HTTP are kept.
        webhook: who is told of FAIL and NOVEL.
    """

    def __init__(
        self,
        pool: Pool,
        answers: Answers,
        metrics: Metrics,
        *,
        model: str,
        levels: dict[str, Any],
        keep: Keep = "review",
        webhook: Webhook | None = None,
    ) -> None:
        self._by = Judge(pool, model, levels)
        self._answers, self._metrics = answers, metrics
        self._keep, self._webhook = keep, webhook
        self._records: queue.Queue[_Record] = queue.Queue()
        self._recorder = threading.Thread(target=self._record_all, daemon=True)
        self._recorder.start()

    def use(self, pool: Pool, model: str, levels: dict[str, Any]) -> None:
        """Have another file judge whatever arrives from now on; what is in work ends as it began."""
        self._by = Judge(pool, model, levels)

    async def take(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """Score images and record them; their answers are in the order of the images.

        Raises:
            service.engine.pool.FullError: too many wait.
            DataError: the store cannot be written.
        """
        started = time.monotonic()
        by = self._by
        futures = by.pool.score([arrival.data for arrival in arrivals])
        judged = await asyncio.gather(*map(asyncio.wrap_future, futures))
        outcomes = [
            Outcome(arrival, hashlib.sha256(arrival.data).hexdigest(), each, by)
            for arrival, each in zip(arrivals, judged, strict=True)
        ]
        await asyncio.wrap_future(self._recorded(outcomes))
        self._metrics.took(time.monotonic() - started)
        return outcomes

    def take_watched(self, data: bytes, place: Path, camera: str) -> None:
        """Score one file of a watched folder, in the watcher's own thread.

        Raises:
            service.engine.pool.FullError: too many wait.
        """
        digest, by = hashlib.sha256(data).hexdigest(), self._by
        if any(row.model == by.model for row in self._answers.latest_scores(digest)):
            return  # scored before the service was started again
        arrival = Arrival(data, place.name, "watched", camera, place)
        [future] = by.pool.score([data])
        self._recorded([Outcome(arrival, digest, future.result(), by)]).result()

    def _recorded(self, outcomes: Sequence[Outcome]) -> Future[None]:
        record = _Record(outcomes)
        self._records.put(record)
        return record.done

    def _record_all(self) -> None:
        """Write what waits in one transaction: the more arrives, the more share a flush to disk."""
        while True:
            records = [self._records.get()]
            while len(records) < 64:
                try:
                    records.append(self._records.get_nowait())
                except queue.Empty:
                    break
            try:
                self._write([outcome for record in records for outcome in record.outcomes])
            except Exception as error:
                problem = DataError(
                    f"{self._answers.path}: scores cannot be recorded ({error}). Free some space."
                )
                for record in records:
                    record.done.set_exception(problem)
                continue
            for record in records:
                record.done.set_result(None)

    def _write(self, outcomes: Sequence[Outcome]) -> None:
        when = now()
        rows: list[Scored] = []
        with self._answers.together():
            for outcome in outcomes:
                arrival, judged = outcome.arrival, outcome.judged
                self._metrics.add("images", status="failed" if judged.error else "ok")
                if judged.error is None:
                    self._answers.keep(
                        arrival.data,
                        name=arrival.name,
                        source=arrival.source,
                        when=when,
                        place=arrival.place,
                        look=judged.look,
                        stored=self._is_kept(outcome),
                    )
                    rows.append(self._row(outcome, when))
            self._answers.add_scores(rows)
        for outcome, row in zip((o for o in outcomes if o.judged.error is None), rows, strict=True):
            self._metrics.add("decisions", decision=row.decision, triage=row.triage or "")
            if self._webhook is not None and row.triage in ("FAIL", "NOVEL"):
                self._webhook.send(_message(outcome, row))

    def _is_kept(self, outcome: Outcome) -> bool:
        source = outcome.arrival.source
        if source != "http":
            return source == "dropped"  # watched files lie where they are
        return self._keep == "all" or (self._keep == "review" and outcome.judged.triage in _NEEDS_EYES)

    def _row(self, outcome: Outcome, when: str) -> Scored:
        judged = outcome.judged
        return Scored(
            image=outcome.image,
            model=outcome.by.model,
            when=when,
            source=outcome.arrival.source,
            camera=outcome.arrival.camera[:255].encode("utf-8", "replace").decode(),
            decision=judged.decision,
            triage=judged.triage,
            probability=judged.probability,
            p_normal=judged.p_normal,
            p_minority=judged.p_minority,
            levels=outcome.by.levels,
            members=judged.members,
            descriptor=judged.descriptor,
        )


def _message(outcome: Outcome, row: Scored) -> dict[str, Any]:
    return {
        "image": row.image,
        "name": outcome.arrival.name,
        "camera": row.camera,
        "source": row.source,
        "triage": row.triage,
        "decision": row.decision,
        "probability": row.probability,
        "p_normal": row.p_normal,
        "p_minority": row.p_minority,
        "when": row.when,
        "model": row.model,
    }
