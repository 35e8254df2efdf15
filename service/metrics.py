"""Counters of a running service, as Prometheus reads them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_HELP = {
    "outnumbered_images_total": ("counter", "Images, by what became of them."),
    "outnumbered_decisions_total": ("counter", "Scored images, by decided class and triage."),
    "outnumbered_answers_total": ("counter", "Answers that people gave since the start."),
    "outnumbered_requests_total": ("counter", "HTTP requests, by status."),
    "outnumbered_webhook_total": ("counter", "Messages to the webhook, by outcome."),
}


class Metrics:
    """Counts and seconds; any thread may add to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self._buckets = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def add(self, name: str, number: int = 1, **labels: str) -> None:
        """Count something; ``name`` without prefix and ``_total``."""
        with self._lock:
            self._counts[f"outnumbered_{name}_total", tuple(sorted(labels.items()))] += number

    def took(self, seconds: float) -> None:
        """Note how long scoring took, from the arrival of the images to their scores."""
        with self._lock:
            self._seconds += seconds
            self._buckets[sum(seconds > bound for bound in _BUCKETS)] += 1

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Show a number of the moment, asked for when somebody looks."""
        self._gauges[f"outnumbered_{name}"] = (meaning, value)

    def text(self) -> str:
        """All of it in Prometheus' text format."""
        lines: list[str] = []
        with self._lock:
            counts, buckets, seconds = dict(self._counts), list(self._buckets), self._seconds
        for name, (kind, meaning) in _HELP.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
            lines += [
                f"{name}{_labels(labels)} {n}" for (key, labels), n in sorted(counts.items()) if key == name
            ]
        name, total = "outnumbered_scoring_seconds", 0
        lines += [f"# HELP {name} From images received to scores.", f"# TYPE {name} histogram"]
        for bound, n in zip([*map(str, _BUCKETS), "+Inf"], buckets, strict=True):
            total += n
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        lines += [f"{name}_sum {seconds:.6f}", f"{name}_count {total}"]
        for name, (meaning, value) in self._gauges.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge", f"{name} {value():g}"]
        return "\n".join(lines) + "\n"


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    escaped = (
        (name, text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, text in labels
    )
    return "{" + ",".join(f'{name}="{text}"' for name, text in escaped) + "}"
