"""Shards on a Ray cluster: the same shard function, in actors that come and go.

An actor is what a worker process is on one machine: it loads the model once and scores one shard after
another. The part file is the result, written by the actor into the folder that all nodes share, so a
node that vanishes loses the shards in its hands and nothing else; they are given to another. A shard that
has ended two actors is scored on the driver's machine by :mod:`export.scoring.pools.processes`, which finds
the failing image.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from contracts.errors import DataError, ModelError, OutnumberedError
from export.scoring.plan import Shard
from export.scoring.pools.processes import Attempt, score_in_processes, shard_scorer
from export.scoring.pools.ray_cluster import ray_cluster
from export.scoring.shard import ShardJob, ShardResult, read_shard_result

_DEATHS_ALLOWED = 2
_FAILED_STARTS_ALLOWED = 4
_LOOK_EVERY_SECONDS = 1.0


class ShardScorer:
    """What an actor does; a plain class, so that nothing in it needs Ray.

    Args:
        job: model, output folder, settings.
        folder: the driver's working directory, which relative paths start from.
    """

    def __init__(self, job: ShardJob, folder: str) -> None:
        # Actors start in a folder of Ray's; relative paths mean the driver's.
        os.chdir(folder)
        self._score = shard_scorer(job)

    def score(self, shard: Shard) -> ShardResult | OutnumberedError:
        """Score a shard; an error that the user can fix is returned, not raised."""
        try:
            return self._score(Attempt(shard), lambda _: None)
        except OutnumberedError as error:
            return error


def score_on_ray(
    job: ShardJob, shards: Sequence[Shard], address: str, actors: int | None
) -> Generator[ShardResult]:
    """Score shards on a cluster; yield each one's counts once its part file is in place.

    Close the generator (or let an exception pass through it) to end the actors at once.

    Args:
        job: model, output folder, settings; both paths must be the same on every node, as must the images'.
        shards: what is to be scored.
        address: see :func:`export.scoring.pools.ray_cluster.ray_cluster`.
        actors: most at a time, one processor each; None for as many as the cluster has processors.

    Raises:
        UsageError: no Ray, or no token.
        ModelError: no cluster, or actors keep dying whatever they are given.
        DataError: results cannot be written, or a node writes where this machine cannot see.
    """
    with ray_cluster(address) as ray:
        pool = _Actors(ray, job, shards, actors)
        try:
            while pool.busy:
                yield from pool.step()
        finally:
            pool.close()
    if pool.suspects:
        yield from score_in_processes(job, pool.suspects, 1)


class _Actors:
    """Actors, the shards in their hands, and those that wait."""

    def __init__(self, ray: Any, job: ShardJob, shards: Sequence[Shard], most: int | None) -> None:
        self._ray = ray
        self._job = job
        self._most = most
        self._waiting = deque(shards)
        self._in_work: dict[Any, tuple[Any, Shard]] = {}
        self._deaths: Counter[str] = Counter()
        self._deaths_in_a_row = 0
        self.suspects: list[Shard] = []

    @property
    def busy(self) -> bool:
        """True while a shard waits or is in work."""
        return bool(self._waiting or self._in_work)

    def step(self) -> Generator[ShardResult]:
        """Start actors for which there is room, wait for news, act on it."""
        while self._waiting and len(self._in_work) < self._room():
            remote = self._ray.remote(num_cpus=1, max_restarts=0)(ShardScorer)
            self._give(remote.remote(self._job, str(Path.cwd())))
        # With a timeout, so that nodes that join meanwhile are noticed.
        done, _ = self._ray.wait(list(self._in_work), num_returns=1, timeout=_LOOK_EVERY_SECONDS)
        for reference in done:
            actor, shard = self._in_work.pop(reference)
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                # An exception inside the task is a bug of ours; a lost actor (below) is the cluster's
                # business.
                raise RuntimeError(f"a scoring actor failed:\n{error}") from error
            except self._ray.exceptions.RayError as error:
                self._bury(shard, error)
                continue
            if isinstance(answer, OutnumberedError):
                raise answer
            self._deaths_in_a_row = 0
            if self._waiting:
                self._give(actor)
            else:
                self._ray.kill(actor)
            self._check_visible(shard)
            yield answer

    def close(self) -> None:
        """End every actor; a shard in work is scored again by the next run."""
        for actor, _ in self._in_work.values():
            self._ray.kill(actor)
        self._in_work.clear()

    def _room(self) -> int:
        """Actors that may be at work: the cluster's processors of this moment, or fewer as told."""
        # Asked again each time: the cluster may grow and shrink.
        there = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        return there if self._most is None else min(self._most, there)

    def _give(self, actor: Any) -> None:
        shard = self._waiting.popleft()
        self._in_work[actor.score.remote(shard)] = (actor, shard)

    def _bury(self, shard: Shard, error: Exception) -> None:
        """An actor is gone, with its node or by itself; its shard is tried elsewhere."""
        self._deaths[shard.id] += 1
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row > _FAILED_STARTS_ALLOWED + len(self._in_work):
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(
                f"scoring actors end one after another ({reason}). Every node needs this application, the "
                "model, the images and the output folder under the same paths; finished shards are kept."
            )
        if self._deaths[shard.id] < _DEATHS_ALLOWED:
            self._waiting.appendleft(shard)
        else:
            self.suspects.append(shard)

    def _check_visible(self, shard: Shard) -> None:
        part = self._job.output / shard.file_name
        if read_shard_result(part, shard) is None:
            raise DataError(
                f"output {self._job.output}: a node wrote {part.name} and this machine does not see it. Name "
                "a folder that all nodes share."
            )
