"""A few images with what they must give: whether a machine and a runtime compute a file as it was measured.

Processors and runtimes differ in how they round, and some saturate where int8 products are added. The file
holds the scores that its members gave to three made pictures where it was exported; any machine can repeat
that in a fraction of a second. The pictures are made of raw random bits by rule, so that no training image
has to travel with the file, and they are the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from contracts.rows import FloatArray, ImageArray
from export.scoring.model import ScoringModel

PROBE_KEY = "probe"
"""Of the file's document: ``{"member_scores": [[...]], "limits": [...]}``."""

LIMIT = 0.05
"""By how many of a column's standard deviations, over judged images, a score may differ. The parity gate
allows as much."""

_SEED = 19
# Colour patches, grey cells and pixels: contrast on every scale that a convolution sees.
_CELLS = (4, 32, None)


@dataclass(frozen=True)
class ProbeResult:
    """What the pictures gave.

    Attributes:
        largest: largest difference of a score, in units of what is allowed; NaN where a score is no number.
        member: whose score it is.
        runtime: that computed it.
    """

    largest: float
    member: str
    runtime: str

    @property
    def passed(self) -> bool:
        """Whether the file is computed as it was measured; NaN fails."""
        return self.largest <= 1.0

    def to_json(self) -> dict[str, Any]:
        """For documents."""
        return {
            "passed": self.passed,
            "largest": round(self.largest * LIMIT, 6),
            "member": self.member,
            "runtime": self.runtime,
            "unit": f"standard deviations of the member's scores; at most {LIMIT:g} pass",
        }


def probe_images(size: int) -> ImageArray:
    """``[3, S, S, 3]`` uint8 pictures, the same on every machine and in every version of numpy.

    Args:
        size: S, the working size.
    """
    bits = np.random.PCG64(_SEED)
    images = []
    for cells in _CELLS:
        side = size if cells is None else min(cells, size)
        channels = 1 if cells == _CELLS[1] else 3
        count = side * side * channels
        # Of the bit generator itself: how numpy makes numbers of its bits may change from version to version.
        raw = np.frombuffer(bits.random_raw(-(-count // 8)).astype("<u8").tobytes(), dtype=np.uint8)[:count]
        of_pixel = np.arange(size) * side // size
        picture = raw.reshape(side, side, channels)[of_pixel][:, of_pixel]
        images.append(np.broadcast_to(picture, (size, size, 3)))
    return np.ascontiguousarray(np.stack(images))


def probe_of(model: ScoringModel, spreads: npt.NDArray[np.float64]) -> dict[str, Any]:
    """What a file is to keep, computed by the runtime that its figures are of.

    Args:
        model: loaded.
        spreads: ``[M]`` standard deviation of each member's scores.
    """
    scores = _scores(model)
    # A column without spread has no scale but its own size.
    limits = np.maximum(LIMIT * spreads, 1e-6 * np.maximum(1.0, np.abs(scores).max(axis=0)))
    return {"member_scores": scores.tolist(), "limits": limits.tolist()}


def run_probe(model: ScoringModel) -> ProbeResult | None:
    """Compute the pictures on this machine; None for a file that holds none.

    Raises:
        ModelError: the graph fails on them.
    """
    kept = model.document.get(PROBE_KEY)
    if not kept:
        return None
    differences = np.abs(_scores(model) - np.asarray(kept["member_scores"], dtype=np.float64))
    relative = (differences / np.asarray(kept["limits"], dtype=np.float64)).max(axis=0)
    # argmax takes the first NaN for the largest.
    worst = int(np.argmax(relative))
    return ProbeResult(float(relative[worst]), model.members[worst], model.session.runtime)


def check_probe(model: ScoringModel) -> None:
    """Refuse to score where the file is not computed as it was measured.

    Raises:
        ModelError: a score differs by more than :data:`LIMIT`.
    """
    result = run_probe(model)
    if result is None or result.passed:
        return
    raise ModelError(
        f"{model.path}: {result.runtime} on this machine does not compute this file as it was measured: on "
        f"the pictures that it holds for this check, {result.member} differs by "
        f"{result.largest * LIMIT:.2g} standard deviations (limit {LIMIT:g}). Its figures do not hold here. "
        "Take another --runtime, or export it on this machine."
    )


def _scores(model: ScoringModel) -> FloatArray:
    """``[3, M]`` member scores of the pictures, one at a time, as any batch size gives the same."""
    images = probe_images(model.decode.size)
    return np.concatenate([model.run(images[i : i + 1]).member_scores for i in range(len(images))])
