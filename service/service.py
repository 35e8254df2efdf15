"""A service put together: the model's workers, the store, the watched folders, and what else it was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.files import sha256_of_file
from export.scoring.model import ScoringModel, load_model
from service.answers import Answers
from service.engine.pool import Pool
from service.explaining import Explainer, Prepare
from service.intake import Intake, Keep
from service.limits import Limits
from service.metrics import Metrics
from service.review_queue import ReviewQueue
from service.watching import Watcher
from service.webhook import Webhook

DATABASE = "answers.sqlite"


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
    """

    model: Path
    store: Path
    watch: Sequence[Path] = ()
    keep: Keep = "review"
    webhook: str | None = None
    processes: int = 1
    limits: Limits = field(default_factory=Limits)
    explain: Prepare | None = None


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
        # Its metadata only; the graph is loaded in the workers.
        self.model: ScoringModel = load_model(settings.model, at_first_run=True)
        self.digest = sha256_of_file(settings.model)
        self.metrics = Metrics()
        self.answers = Answers(settings.store / DATABASE)
        self.pool = Pool(settings.model, settings.limits, settings.processes)
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
