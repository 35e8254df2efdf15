"""What an image costs in several graphs, measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from contracts.rows import ImageArray
from export.scoring.model import ScoringModel

BATCH = 16
"""Batch size of the graph, the scorer's default."""

_ROUNDS = 9

Timed = tuple[Callable[[ImageArray], Any], int]
"""What runs a batch ``[N, S, S, 3]`` uint8, and its S."""


def milliseconds_an_image(graphs: Mapping[str, Timed]) -> dict[str, float]:
    """Median milliseconds per image of each graph, without decoding.

    The graphs take turns, so that whatever else the machine does falls on all of them. One round before the
    measured ones warms caches up.
    """
    rng = np.random.default_rng(0)
    images = {
        size: rng.integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8) for _, size in graphs.values()
    }
    seconds: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(1 + _ROUNDS):
        for name, (run, size) in graphs.items():
            started = time.perf_counter()
            run(images[size])
            seconds[name].append(time.perf_counter() - started)
    return {name: 1000.0 * statistics.median(taken[1:]) / BATCH for name, taken in seconds.items()}


def as_timed(model: ScoringModel) -> Timed:
    """An exported file, at its own working size."""
    return model.run, model.decode.size
