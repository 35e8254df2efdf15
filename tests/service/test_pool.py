"""Workers that die, hang or fail: one image pays, and nobody else."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.errors import ModelError
from service.engine.pool import FullError, Pool
from service.engine.work import DrawTask, Judged
from service.limits import Limits

LIMITS = replace(Limits(), image_seconds=2.0, waiting_images=50)


def prepare(model: Path, limits: Limits):
    """Scores by the first byte; some bytes end, block or break whoever reads them."""

    def work(task, announce):
        if isinstance(task, DrawTask):
            return "drawn"
        for image in task.images:
            if image == b"die":
                os._exit(3)
            if image == b"hang":
                time.sleep(600)
            if image == b"fail":
                raise ModelError("the graph failed.")
        return [Judged(decision=f"{len(task.images)}:{image.decode()}") for image in task.images]

    return work


def no_model(model: Path, limits: Limits):
    raise ModelError("bright.onnx: damaged.")


@pytest.fixture
def pool():
    started = Pool(Path("none.onnx"), LIMITS, 1, prepare)
    started.start()
    yield started
    started.close()


def test_batches_form_while_the_worker_is_busy(pool):
    found = [future.result(30).decision for future in pool.score([b"%d" % n for n in range(30)])]
    assert [each.split(":")[1] for each in found] == [str(n) for n in range(30)]
    assert max(int(each.split(":")[0]) for each in found) == LIMITS.batch


@pytest.mark.parametrize("bad", [b"die", b"hang"])
def test_one_hostile_image_costs_itself_only(pool, bad):
    futures = pool.score([b"a", bad, b"b", b"c"])
    a, hostile, b, c = (future.result(60) for future in futures)
    assert [each.error for each in (a, b, c)] == [None] * 3
    assert "ended the process" in hostile.error
    assert pool.replaced
    assert pool.score([b"later"])[0].result(30).error is None


def test_an_error_of_the_model_is_raised_where_it_was_asked(pool):
    [future] = pool.score([b"fail"])
    with pytest.raises(ModelError, match="the graph failed"):
        future.result(30)
    assert pool.score([b"later"])[0].result(30).error is None


def test_a_picture_for_the_page_goes_first(pool):
    done: list[str] = []
    for number, future in enumerate(pool.score([b"x"] * 40)):
        future.add_done_callback(lambda _, n=number: done.append(str(n)))
    pool.draw(DrawTask(b"", "picture")).add_done_callback(lambda _: done.append("drawn"))
    end = time.monotonic() + 30
    while len(done) < 41 and time.monotonic() < end:
        time.sleep(0.01)
    assert done.index("drawn") < 40


def test_too_many_are_refused(pool):
    pool.score([b"hang"])
    with pytest.raises(FullError):
        pool.score([b"x"] * (LIMITS.waiting_images + 1))


def test_a_model_that_cannot_be_loaded_is_said_at_the_start():
    with pytest.raises(ModelError, match=r"bright.onnx: damaged\."):
        Pool(Path("none.onnx"), LIMITS, 1, no_model).start()


def test_what_waits_at_the_end_is_not_left_hanging():
    pool = Pool(Path("none.onnx"), LIMITS, 1, prepare)
    pool.start()
    futures = pool.score([b"hang", b"x", b"y"])
    time.sleep(0.5)
    pool.close()
    assert all(future.done() for future in futures)
