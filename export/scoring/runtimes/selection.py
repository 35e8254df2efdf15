"""``--runtime auto``: the fastest installed runtime that agrees with the reference, on these very images."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np

from contracts.errors import ImageError, OutnumberedError
from contracts.rows import ImageArray
from export.scoring.model import RUNTIMES, ScoringModel, load_model
from export.scoring.plan import Shard
from export.scoring.shard import DEFAULT_BATCH_SIZE, decode_row
from imagedata.containers.reader import ContainerReader

AGREEMENT_LIMIT = 1e-4
"""Largest difference of a probability from the reference's, for a float32 file."""

_STEPS = 2
"""By how many steps of p_normal a runtime may differ where there is no probability to compare."""

VARIANT_LIMIT = 0.05
"""The same for a variant, however far its own gate saw it from the float32 file."""

TRIAL_IMAGES = 32
"""Images of the job itself that the runtimes are tried on."""

_ROUNDS = 3


@dataclass(frozen=True)
class Trial:
    """How one runtime did.

    Attributes:
        runtime: its name.
        images_per_second: on one thread, the median of a few interleaved rounds; 0 where it could not run.
        max_probability_difference: from the reference, of p_normal where there is no probability; NaN where
            it could not run.
        refused: why it is not taken, or an empty text.
    """

    runtime: str
    images_per_second: float
    max_probability_difference: float
    refused: str = ""


def choose_runtime(reference: ScoringModel, shard: Shard) -> tuple[str, tuple[Trial, ...]]:
    """Try every runtime on the first images that can be read.

    The reference is ONNX Runtime on the same file. A variant file (bf16, int8) may differ from it by twice
    what its own accuracy gate saw in that runtime, and by no more than 0.05; without a gate's figures for a
    runtime it is refused.

    Args:
        reference: the file, opened in ONNX Runtime.
        shard: images of the job.

    Returns:
        The chosen runtime and all trials. The reference where nothing else is installed or can be read.
    """
    images = _readable(shard, reference)
    if len(images) == 0:
        return RUNTIMES[0], ()
    models: dict[str, ScoringModel] = {RUNTIMES[0]: reference}
    refused: dict[str, str] = {}
    for runtime in RUNTIMES[1:]:
        try:
            models[runtime] = load_model(reference.path, runtime=runtime)
        except OutnumberedError as error:
            refused[runtime] = str(error)
    expected = _judgements(reference, images)
    differences = {
        runtime: float(np.abs(_judgements(model, images) - expected).max())
        for runtime, model in models.items()
    }
    seconds: dict[str, list[float]] = {runtime: [] for runtime in models}
    # Interleaved, so that other load on the machine falls on all runtimes alike.
    for _ in range(_ROUNDS):
        for runtime, model in models.items():
            started = time.perf_counter()
            _judgements(model, images)
            seconds[runtime].append(time.perf_counter() - started)
    trials = [
        Trial(
            runtime,
            len(images) / statistics.median(seconds[runtime]),
            differences[runtime],
            _disagreement(reference, runtime, differences[runtime]),
        )
        for runtime in models
    ]
    trials += [Trial(runtime, 0.0, float("nan"), reason) for runtime, reason in refused.items()]
    best = max((trial for trial in trials if not trial.refused), key=lambda trial: trial.images_per_second)
    return best.runtime, tuple(trials)


def _disagreement(reference: ScoringModel, runtime: str, difference: float) -> str:
    """Why a runtime is not taken, or an empty text; written so that NaN is refused."""
    if runtime == RUNTIMES[0]:
        return ""
    limit = AGREEMENT_LIMIT
    if reference.precision != "fp32":
        gate = reference.document.get("gate", {}).get(runtime)
        # One that failed its gate was refused when it was opened.
        if not gate:
            return f"the {reference.precision} file has not passed the accuracy gate in it"
        # The gate compared with the fp32 file, the trial with ONNX Runtime's reading of this one.
        limit = max(limit, min(VARIANT_LIMIT, 2.0 * float(gate["max_probability_difference"] or 0.0)))
    what = "probabilities"
    if not reference.has_probability:
        # A step function: a score that differs in its last digits may lie on the next step.
        what, limit = "values of p_normal", _STEPS * float(reference.document["conformal"]["least"]) + limit
        if reference.precision != "fp32":
            limit = max(limit, VARIANT_LIMIT)
    if difference <= limit:
        return ""
    return f"its {what} differ by up to {difference:.1e} (limit {limit:.0e})"


def _readable(shard: Shard, model: ScoringModel) -> ImageArray:
    """Pixels of the first images that decode, ``[n, S, S, 3]``."""
    found = []
    containers = ContainerReader()
    for position in range(len(shard.paths)):
        try:
            found.append(decode_row(shard, position, model.decode, containers).pixels)
        except ImageError:
            continue
        if len(found) == TRIAL_IMAGES:
            break
    containers.close()
    size = model.decode.size
    return np.stack(found) if found else np.empty((0, size, size, 3), dtype=np.uint8)


def _judgements(model: ScoringModel, images: ImageArray) -> np.ndarray:
    """Probabilities, or p_normal where the file gives none."""
    parts = []
    for start in range(0, len(images), DEFAULT_BATCH_SIZE):
        scores = model.run(images[start : start + DEFAULT_BATCH_SIZE])
        judged = scores.p_normal if scores.probability is None else scores.probability
        assert judged is not None  # a file that gives neither was refused when it was opened
        parts.append(judged)
    return np.concatenate(parts)
