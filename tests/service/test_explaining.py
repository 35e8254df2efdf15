"""Explanations by a run in a child process that may fail, die, or not be there at all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from contracts.errors import ModelError
from service.explaining import Explainer, Explanation


def prepare():
    def work(image: Path, announce):
        if image.name == "die":
            os._exit(3)
        if image.name == "fail":
            raise ModelError("the run is not finished.")
        return {"picture": str(image.with_suffix(".png")), "sentences": [f"of {image.name}"]}

    return work


def no_run():
    raise ModelError("runs/none: no run folder.")


def ended(explainer: Explainer, image: str) -> Explanation:
    end = time.monotonic() + 60
    while (
        found := explainer.ask(image, Path("/store") / image)
    ).state == "waiting" and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.fixture
def explainer():
    started = Explainer(prepare)
    started.start()
    yield started
    started.stop()


def test_it_is_asked_once_and_remembered(explainer):
    found = ended(explainer, "a")
    assert found == Explanation("done", Path("/store/a.png"), ("of a",))
    assert explainer.known("a") is found
    assert explainer.known("b") is None


def test_one_that_fails_or_dies_says_so_and_the_next_is_explained(explainer):
    assert ended(explainer, "fail") == Explanation("failed", None, ("the run is not finished.",))
    assert "Ask again later" in ended(explainer, "die").sentences[0]
    assert ended(explainer, "a").state == "done"


def test_a_run_that_cannot_be_opened():
    explainer = Explainer(no_run)
    explainer.start()
    assert ended(explainer, "a").sentences == ("runs/none: no run folder.",)
    explainer.stop()


def test_without_a_run_there_is_nothing_to_ask(server):
    assert not Explainer(None).is_there
    answer = server.ask("POST", f"/images/{'0' * 64}/explanation")
    assert answer.status == 400
    assert "without --run" in answer.json["error"]
