"""Worker processes that score shards, and what happens when one of them dies.

Several single-threaded processes that decode and score by themselves beat every arrangement with
queues between decoders and a shared session. Workers may die at any image (a decoder's fault, the
out-of-memory killer): the shard is tried once more, then image by image until the failing one is known
and recorded as failed, and the batch goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from contracts.errors import ModelError
from contracts.worker_process import Announce, Work
from contracts.workers import Lost, WorkerPool
from export.scoring.model import load_model
from export.scoring.plan import Shard
from export.scoring.probe import check_probe
from export.scoring.shard import ShardJob, ShardResult, score_shard
from imagedata.containers.reader import ContainerReader
from imagedata.decoding.decode import reuse_pixel_memory

_FAILING_IMAGES_ALLOWED = 16
"""Images of one shard that may end a worker; beyond it the machine is at fault, not the images."""


@dataclass(frozen=True)
class Attempt:
    """A shard to score, and how.

    Attributes:
        shard: the images.
        careful: announce each image before touching it, because this shard has ended workers before.
        given_up: position → reason of images to leave alone.
    """

    shard: Shard
    careful: bool = False
    given_up: dict[int, str] = field(default_factory=dict)


def shard_scorer(job: ShardJob) -> Work[Attempt, ShardResult]:
    """Load the model once; return what scores one shard after another."""
    reuse_pixel_memory()
    model = load_model(job.model_path, runtime=job.runtime)
    check_probe(model)
    containers = ContainerReader()

    def score(attempt: Attempt, announce: Announce) -> ShardResult:
        return score_shard(
            model,
            job,
            attempt.shard,
            before_image=announce if attempt.careful else None,
            given_up=attempt.given_up,
            containers=containers,
        )

    return score


def score_in_processes(job: ShardJob, shards: Sequence[Shard], processes: int) -> Generator[ShardResult]:
    """Score shards in worker processes; yield each one's counts as its part file is in place.

    Close the generator (or let an exception pass through it) to end the workers at once; a shard in work is
    scored again by the next run.

    Args:
        job: model, output folder, settings.
        shards: what is to be scored.
        processes: most workers at a time.

    Raises:
        ModelError: the model fails, or workers keep dying whatever they are given.
        DataError: results cannot be written.
    """
    deaths: Counter[str] = Counter()
    with WorkerPool(
        partial(shard_scorer, job),
        map(Attempt, shards),
        processes,
        name="scoring processes",
        advice="Use --processes 1, or give the machine more memory",
        label=lambda attempt: f"shard {attempt.shard.id}",
    ) as pool:
        for attempt, outcome in pool:
            if isinstance(outcome, Lost):
                deaths[attempt.shard.id] += 1
                pool.put_first([_next_attempt(attempt, outcome, deaths[attempt.shard.id])])
            else:
                yield outcome


def _next_attempt(attempt: Attempt, lost: Lost, deaths: int) -> Attempt:
    """How to go on with a shard whose worker died: once more as it was, then image by image."""
    if not attempt.careful:
        # The first death may be due to a shortage of memory rather than to an image. Announcing every image
        # costs time, so it waits for the second.
        return replace(attempt, careful=deaths > 1)
    given_up = attempt.given_up
    if lost.step is not None:  # else it died outside any image, and there is none to blame yet
        reason = f"ended the process that was reading or scoring it ({lost.ending})."
        given_up = {**given_up, lost.step: reason}
    if (deaths if lost.step is None else len(given_up)) > _FAILING_IMAGES_ALLOWED:
        raise ModelError(
            f"shard {attempt.shard.id} (first image {attempt.shard.paths[0]!r}) ended {deaths} processes, "
            f"last by {lost.ending}. Use fewer --processes, or give the machine more memory; finished shards "
            "are kept."
        )
    return replace(attempt, given_up=given_up)
