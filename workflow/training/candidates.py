"""What is tried where a recipe leaves the working size open, and what it costs."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.devices import pick_device
from workflow.settings.config import RunConfig

_TIMED, _ROUNDS = 8, 3


@dataclass(frozen=True)
class Candidate:
    """One way to prepare images, and what it gave.

    Attributes:
        fit: see :data:`imagedata.decoding.shape.Fit`.
        image_size: what the network sees, in pixels.
        ms: milliseconds per image of the backbone, eight at a time, on this machine just now.
        scores: ``[n]`` mean of the members' standardised out-of-fold scores.
        tiles: per side of the picture.
    """

    fit: str
    image_size: int
    ms: float
    scores: npt.NDArray[np.float64]
    tiles: int = 1

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.fit}, {in_words(self.image_size, self.tiles)}"


def milliseconds(config: RunConfig, size: int) -> float:
    """Milliseconds per image of the recipe's backbone, with as many tiles, at another size.

    Images go through it eight at a time, and fewer where each is several tiles.
    """
    from features.graphs.runner import backbone_runner
    from workflow.run.features import load_backbones

    backbone = config.recipe.backbone.model_copy(update={"image_size": size})
    [loaded] = load_backbones(config, {backbone}).values()
    run = backbone_runner(loaded.backbone, loaded.store.folder, pick_device(config.options.device))
    count, side = max(1, _TIMED // backbone.tiles**2), backbone.working_size
    images = np.zeros((count, side, side, 3), dtype=np.uint8)
    seconds = []
    for _ in range(1 + _ROUNDS):
        started = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - started)
    # The first call also allocates.
    return 1000.0 * statistics.median(seconds[1:]) / count


def in_words(size: int, tiles: int) -> str:
    """A working size for people."""
    return f"{size} px" if tiles == 1 else f"{tiles} x {tiles} tiles of {size} px"
