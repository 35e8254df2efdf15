"""What an image costs in exported files, measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import numpy as np

from export.scoring.model import ScoringModel

BATCH = 16
"""Images a call of the graph, as the scorer's default."""

_ROUNDS = 9


def milliseconds_an_image(models: Mapping[str, ScoringModel]) -> dict[str, float]:
    """Median milliseconds an image of each model, without decoding.

    The models take turns, so that whatever else the machine does falls on all of them. One round before the
    measured ones warms caches up.

    Args:
        models: as loaded for scoring, with one thread each; each gets images of its own working size.
    """
    rng = np.random.default_rng(0)
    images = {
        size: rng.integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8)
        for size in {model.decode.size for model in models.values()}
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(1 + _ROUNDS):
        for name, model in models.items():
            started = time.perf_counter()
            model.run(images[model.decode.size])
            seconds[name].append(time.perf_counter() - started)
    return {name: 1000.0 * statistics.median(taken[1:]) / BATCH for name, taken in seconds.items()}
