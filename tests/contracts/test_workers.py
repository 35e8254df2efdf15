"""The pool: every task once, memory for few of them, deaths and stalls handed back, no orphans."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from multiprocessing import active_children

import pytest

from contracts.errors import DataError, ModelError
from contracts.workers import Lost, WorkerPool
from tests.contracts import process_work

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")


def pool_of(tasks, prepare=process_work.prepare, **options) -> WorkerPool[str, str]:
    return WorkerPool(prepare, tasks, 2, name="test processes", advice="Stop it", **options)


def test_every_task_is_done_once_and_few_are_taken_ahead() -> None:
    taken: list[str] = []

    def tasks() -> Iterator[str]:
        for number in range(20):
            taken.append(f"echo {number}")
            yield taken[-1]

    with pool_of(tasks()) as pool:
        outcomes = []
        for done in pool:
            outcomes.append(done)
            assert len(taken) <= len(outcomes) + 4  # two in work, two waiting
    assert sorted(outcomes) == sorted((task, task.upper()) for task in taken)
    assert not active_children()


def test_no_tasks_need_no_worker() -> None:
    with pool_of([]) as pool:
        assert list(pool) == []


def test_a_death_and_a_stall_are_handed_back_with_the_last_step_and_may_be_tried_again() -> None:
    found: dict[str, object] = {}
    with pool_of(["die", "stall", "echo a"], patience_s=1.5) as pool:
        for task, outcome in pool:
            found[task] = outcome
            if task == "die":
                pool.put_first(["echo again"])
    assert found["die"] == Lost("signal SIGKILL", step=7, stalled=False)
    assert found["stall"] == Lost("signal SIGKILL", step=None, stalled=True)
    assert (found["echo a"], found["echo again"]) == ("ECHO A", "ECHO AGAIN")


def test_signs_of_life_extend_patience() -> None:
    with pool_of(["slow"], patience_s=1.0) as pool:
        assert list(pool) == [("slow", "SLOW")]


def test_tasks_handed_in_again_come_first_and_in_order() -> None:
    with WorkerPool(process_work.prepare, ["die", "echo z"], 1, name="", advice="") as pool:
        order = []
        for task, outcome in pool:
            order.append(task)
            if isinstance(outcome, Lost):
                pool.put_first(["echo a", "echo b"])
    assert order == ["die", "echo a", "echo b", "echo z"]


def test_errors_of_the_user_are_raised_as_they_are_and_others_with_their_traceback() -> None:
    with pytest.raises(DataError, match=r"^covid: too few\. Add some\.$"), pool_of(["refuse"]) as pool:
        list(pool)
    with (
        pytest.raises(
            RuntimeError, match=r"(?s)^fit bug: a worker process failed:\nTraceback.*EOFError: a bug"
        ),
        pool_of(["bug"], label=lambda task: f"fit {task}") as pool,
    ):
        list(pool)
    assert not active_children()


def test_what_fails_while_it_is_prepared_is_raised() -> None:
    with (
        pytest.raises(DataError, match="no such model"),
        pool_of(["echo"], process_work.prepare_nothing) as pool,
    ):
        list(pool)


def test_workers_that_die_before_they_are_ready_are_given_up() -> None:
    said = r"^test processes end while they start \(exit code 9\), 3 in a row\. Stop it; in a script"
    with pytest.raises(ModelError, match=said), pool_of(["echo"], process_work.prepare_death) as pool:
        list(pool)


def test_leaving_the_block_ends_workers_in_the_middle_of_their_work() -> None:
    with pool_of(["stall", "echo a"]) as pool:
        assert next(iter(pool)) == ("echo a", "ECHO A")
        assert active_children()
    assert not active_children()


def test_interrupts_reach_the_parent_alone() -> None:
    with pool_of(["own pid", "own pid"]) as pool:
        outcomes = iter(pool)
        os.kill(int(next(outcomes)[1]), signal.SIGINT)
        time.sleep(0.2)
        assert next(outcomes)[0] == "own pid"
