"""A service put together: the model's workers, the store, the watched folders, and what else it was given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.errors import UsageError
from export.scoring.model import ScoringModel, load_model
from service.answers import Answers
from service.applying import ApplyFolder
from service.engine.pool import Pool
from service.explaining import Explainer, Prepare
from service.intake import Intake, Keep
from service.limits import Limits
from service.metrics import Metrics
from service.review_queue import ReviewQueue
from service.versions import Journal
from service.watching import Watcher
from service.webhook import Webhook

DATABASE = "answers.sqlite"
_PATIENCE_S = 60.0
"""For images that wait for a file that is no longer in use."""


@dataclass(frozen=True)
class Settings:
    """What a service is made of.

    Attributes:
        model: an exported file.
        store: folder of answers and images.
        watch: folders whose new images are scored.
        keep: which images that came over HTTP are kept.
        webhook: address that is told of FAIL and NOVEL.
        processes: scoring processes.
        limits: bounds of everything.
        explain: opens the run for explanations, in a child process.
        run: run folder of the file, which answers teach; None where there is none.
    """

    model: Path
    store: Path
    watch: Sequence[Path] = ()
    keep: Keep = "review"
    webhook: str | None = None
    processes: int = 1
    limits: Limits = field(default_factory=Limits)
    explain: Prepare | None = None
    run: Path | None = None


class Service:
    """Everything behind the routes.

    Args:
        settings: what it is made of.

    Raises:
        UsageError: no such model or folder.
        ModelError: not a model.
        DataError: the store cannot be opened.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.limits = settings, settings.limits
        # Before anything is kept: a file that is no model is none to go back to.
        load_model(settings.model, at_first_run=True)
        self.applying = ApplyFolder(settings.store)
        self.versions = self.applying.versions
        in_use = self.versions.take_up(settings.model)
        # Its metadata only; the graph is loaded in the workers.
        self.model: ScoringModel = load_model(in_use, at_first_run=True)
        self.digest = in_use.stem
        self.metrics = Metrics()
        self.answers = Answers(settings.store / DATABASE)
        self.pool = Pool(in_use, settings.limits, settings.processes)
        self._changing = threading.Lock()
        self.webhook = Webhook(settings.webhook, self.metrics) if settings.webhook else None
        self.intake = Intake(
            self.pool,
            self.answers,
            self.metrics,
            model=self.digest,
            levels=self._levels(),
            keep=settings.keep,
            webhook=self.webhook,
        )
        self.queue = ReviewQueue(self.answers, self.threshold)
        self.explainer = Explainer(settings.explain)
        self.watcher = Watcher(settings.watch, self.intake.take_watched, settings.limits)
        self.metrics.watch("waiting_images", "Images that wait for a worker.", lambda: self.pool.waiting)
        self.metrics.watch(
            "workers_replaced",
            "Workers that died or hung.",
            lambda: self.pool.replaced,
        )

    @property
    def threshold(self) -> float | None:
        """Of the probability, where the file has one number."""
        value = self.model.document["threshold"].get("value")
        return float(value) if self.model.has_probability and isinstance(value, int | float) else None

    def _levels(self) -> dict[str, Any]:
        """What holds while this model is in use, for the record beside each score."""
        document = self.model.document
        triage = document.get("triage") or {}
        return {
            "prior": document["prior"],
            "threshold": document["threshold"].get("value"),
            **{name: triage[name] for name in ("miss_rate", "false_alarms") if name in triage},
        }

    def use(self, sha256: str, *, who: str) -> None:
        """Put a kept file in use; whatever arrives from then on is judged by it.

        Args:
            sha256: of the file.
            who: the person.

        Raises:
            UsageError: no such file is kept, or another change is being made.
            OutnumberedError: it cannot be used; the file before it stays.
        """
        self._change(self.versions.path_of(sha256), lambda: self.versions.use(sha256, who=who))

    def back(self, *, who: str, leaving: str) -> None:
        """Put the file in use that was before.

        Args:
            who: the person.
            leaving: digest of the file that the person saw in use; where another one is by now, nothing
                changes.

        Raises:
            UsageError: there is none before it, or another change is being made.
            OutnumberedError: it cannot be used; the one in use stays.
        """
        journal = self.versions.read()
        if journal.in_use != leaving:
            return
        if journal.before is None:
            raise UsageError("no file was in use before this one, so there is no way back.")
        path = self.versions.path_of(journal.before)
        self._change(path, lambda: self.versions.back(who=who, leaving=leaving))

    def _change(self, path: Path, record: Callable[[], Journal]) -> None:
        """Start workers with another file, write down that it is in use, and only then let it judge."""
        if not self._changing.acquire(blocking=False):
            raise UsageError("another file is being put in use at this moment. Look again in a while.")
        try:
            if path.stem == self.digest:
                return
            model = load_model(path, at_first_run=True)
            pool = Pool(path, self.limits, self.settings.processes)
            pool.start()
            try:
                record()
            except BaseException:
                pool.close()
                raise
            before, self.pool = self.pool, pool
            self.model, self.digest = model, path.stem
            self.intake.use(pool, self.digest, self._levels())
            self.queue = ReviewQueue(self.answers, self.threshold)
            threading.Thread(target=_ended, args=(before,), daemon=True).start()
        finally:
            self._changing.release()

    def start(self) -> None:
        """Load the model in the workers and begin to watch.

        Raises:
            OutnumberedError: the model cannot be used.
        """
        self.pool.start()
        if self.webhook is not None:
            self.webhook.start()
        self.explainer.start()
        self.watcher.start()

    def stop(self) -> None:
        """End threads and processes."""
        self.watcher.stop()
        self.explainer.stop()
        if self.webhook is not None:
            self.webhook.stop()
        self.pool.close()
        self.answers.close()


def _ended(pool: Pool) -> None:
    """Let workers end what waits for them, and then end them."""
    end = time.monotonic() + _PATIENCE_S
    while pool.waiting and time.monotonic() < end:
        time.sleep(0.1)
    # What was taken from the queue is being judged now.
    time.sleep(1.0)
    pool.close()
