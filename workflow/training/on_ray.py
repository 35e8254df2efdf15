"""Fits of training as tasks on a Ray cluster: the same work, the same results."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from contracts.errors import ModelError, OutnumberedError
from export.scoring.pools.ray_cluster import ray_cluster

Task = TypeVar("Task")

_TRIES = 3


def work_on_ray(
    work: Callable[[Task], None],
    tasks: Sequence[Task],
    address: str,
    most: int | None,
    label: Callable[[Task], str],
) -> Generator[Task]:
    """Do tasks on a cluster; yield each as it is done, in no certain order.

    A task whose node vanishes is given to another; what it keeps appears whole by a rename, so a task done
    twice does no harm. Close the generator (or let an exception pass through it) to end what is in work.

    Args:
        work: picklable; keeps what it makes in files that all nodes share under the same paths.
        tasks: picklable.
        address: see :func:`export.scoring.pools.ray_cluster.ray_cluster`.
        most: tasks at a time, one processor each; None for as many as the cluster has processors.
        label: names a task in messages.

    Raises:
        OutnumberedError, OSError: as raised by ``work``.
        ModelError: a task ended every node that it was given to; names it.
    """
    with ray_cluster(address) as ray:
        # The cluster gives it to another node itself where a node has gone; the count is ours, in words.
        remote = ray.remote(num_cpus=1, max_retries=0)(_in_folder)
        # Once per cluster rather than once per task: it holds the configuration and the manifest.
        shared = ray.put(work)
        waiting, tries = deque(tasks), Counter[str]()
        in_work: dict[Any, Task] = {}
        try:
            while waiting or in_work:
                room = max(1, int(ray.cluster_resources().get("CPU", 1)))
                room = room if most is None else min(most, room)
                while waiting and len(in_work) < room:
                    task = waiting.popleft()
                    in_work[remote.remote(shared, task, str(Path.cwd()))] = task
                done, _ = ray.wait(list(in_work), num_returns=1, timeout=1.0)
                for reference in done:
                    task = in_work.pop(reference)
                    try:
                        answer = ray.get(reference)
                    except ray.exceptions.RayTaskError as error:
                        raise RuntimeError(
                            f"{label(task)}: a task on the cluster failed:\n{error}"
                        ) from error
                    except ray.exceptions.RayError as error:
                        tries[label(task)] += 1
                        if tries[label(task)] == _TRIES:
                            raise ModelError(
                                f"{label(task)}: every process that worked on it ended, {_TRIES} in a row. "
                                "Give the nodes more memory; what is finished is kept, and the same command "
                                "goes on."
                            ) from error
                        waiting.appendleft(task)
                        continue
                    if answer is not None:
                        raise answer
                    yield task
        finally:
            for reference in in_work:
                # force ends the worker process; without it Ray only raises KeyboardInterrupt inside the task.
                ray.cancel(reference, force=True)


def _in_folder(work: Callable[[Task], None], task: Task, folder: str) -> OutnumberedError | OSError | None:
    """Do one task where its relative paths hold; an error that is the user's is an answer."""
    os.chdir(folder)
    try:
        work(task)
    except (OutnumberedError, OSError) as error:
        return error
    return None
