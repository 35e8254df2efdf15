"""A worker process of the batch scorer: one session, one thread, shards one after another.

The driver sends a :class:`Task` at a time through the worker's own pipe and gets a :class:`Ready`, any
number of :class:`AtImage`, then a :class:`~export.scoring.shard.ShardResult` or a :class:`Failure`. No
lock or queue is shared between workers: one that dies while holding nothing can hurt nobody.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from contracts.errors import OutnumberedError
from contracts.processes import leave_interrupts_to_parent
from export.scoring.inputs.containers import ContainerReader
from export.scoring.model import load_model
from export.scoring.plan import Shard
from export.scoring.shard import ShardJob, score_shard
from imagedata.decoding.decode import reuse_pixel_memory


@dataclass(frozen=True)
class Task:
    """A shard to score.

    Attributes:
        shard: the images.
        careful: announce each image before touching it, because this shard has ended workers before.
        given_up: position → reason of images to leave alone.
    """

    shard: Shard
    careful: bool = False
    given_up: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """The worker has loaded its model."""


@dataclass(frozen=True)
class AtImage:
    """The worker is about to touch the image at ``position`` of its shard."""

    position: int


@dataclass(frozen=True)
class Failure:
    """The worker cannot go on: an error for the user, or ``unexpected`` with a traceback as its text."""

    error: OutnumberedError | None
    unexpected: str = ""


def run_worker(job: ShardJob, driver: Connection) -> None:
    """Serve tasks until the driver closes the pipe, sends None or dies."""
    leave_interrupts_to_parent()
    reuse_pixel_memory()
    try:
        model = load_model(job.model_path, runtime=job.runtime)
        containers = ContainerReader()
        driver.send(Ready())
        while True:
            task: Task | None = driver.recv()
            if task is None:
                return
            announce = (lambda position: driver.send(AtImage(position))) if task.careful else None
            result = score_shard(
                model,
                job,
                task.shard,
                before_image=announce,
                given_up=task.given_up,
                containers=containers,
            )
            driver.send(result)
    except (EOFError, ConnectionError):  # closed, also with something unread in it
        return
    except OutnumberedError as error:
        driver.send(Failure(error))
    except Exception:
        driver.send(Failure(None, traceback.format_exc()))
