"""In which order people look."""

from __future__ import annotations

import numpy as np
import pytest

from export.scoring import load_model
from service.answers import Answers
from service.engine.work import ScoreTask, descriptor_of, score
from service.likeness import most_alike
from service.limits import Limits
from service.records import Scored, now
from service.review_queue import ReviewQueue
from tests.hostile import encode
from tests.hostile_corpus import photo


@pytest.fixture
def answers(tmp_path):
    store = Answers(tmp_path / "answers.sqlite")
    yield store
    store.close()


def put(answers, name, triage=None, p=None, p_normal=None, descriptor=None, stored=True):
    digest = answers.keep(name.encode(), name=name, source="dropped", when=now(), stored=stored)
    row = Scored(digest, "m", now(), "dropped", "", "x", triage, p, p_normal, descriptor=descriptor)
    answers.add_scores([row])
    return digest


def names(answers, queue):
    return [answers.image(asked.scored.image).name for asked in queue.order()]


def test_novel_and_review_first_then_the_least_certain(answers):
    for name, triage, p in (
        ("sure pass", "PASS", 0.001), ("near pass", "PASS", 0.2), ("review far", "REVIEW", 0.9),
        ("fail", "FAIL", 0.97), ("review near", "REVIEW", 0.35), ("novel", "NOVEL", 0.01),
    ):  # fmt: skip
        put(answers, name, triage, p)
    order = names(answers, ReviewQueue(answers, 0.3))
    assert order == ["novel", "review near", "review far", "near pass", "fail", "sure pass"]


def test_without_probabilities_the_least_normal_first(answers):
    for name, p_normal in (("usual", 0.8), ("rare", 0.05), ("between", 0.4)):
        put(answers, name, p_normal=p_normal)
    assert names(answers, ReviewQueue(answers, None)) == ["rare", "between", "usual"]


def test_answered_images_leave_skipped_ones_come_last_and_undone_ones_come_back(answers):
    queue = ReviewQueue(answers, 0.5)
    a, b, c = (put(answers, name, "REVIEW", p) for name, p in (("a", 0.5), ("b", 0.6), ("c", 0.7)))
    assert names(answers, queue) == ["a", "b", "c"]
    answers.add(a, "skip", who="", when=now(), token="1")
    assert names(answers, queue) == ["b", "c", "a"]
    answers.add(b, "normal", who="", when=now(), token="2")
    assert names(answers, queue) == ["c", "a"]
    answers.undo(b, who="", when=now(), token="3")
    assert names(answers, queue) == ["b", "c", "a"]
    answers.add(c, "unsure", who="", when=now(), token="4")
    assert names(answers, queue) == ["b", "a"]


def test_an_image_that_was_not_kept_is_not_asked_about(answers):
    put(answers, "gone", "PASS", 0.4, stored=False)
    put(answers, "kept", "PASS", 0.01)
    assert names(answers, ReviewQueue(answers, 0.5)) == ["kept"]


def judged(triage_model, *pixels):
    from export.scoring.model import load_model

    files = tuple(encode(each, "PNG") for each in pixels)
    return score(load_model(triage_model), ScoreTask(files), Limits())


def test_near_copies_come_once(answers, triage_model):
    one, other = photo(1), photo(2)
    again = (one.astype(int) + 3).clip(0, 255).astype("uint8")
    for name, seen in zip(("one", "again", "other"), judged(triage_model, one, again, other), strict=True):
        put(answers, name, "REVIEW", 0.5, descriptor=seen.descriptor)
    queue = ReviewQueue(answers, 0.5)
    assert names(answers, queue) == ["one", "other", "again"]
    assert queue.order()[-1].why == "a near copy of an image before it"
    answers.add(queue.order()[0].scored.image, "normal", who="", when=now(), token="1")
    assert names(answers, queue) == ["other", "again"], "also of one that was answered"


def test_more_like_this(triage_model):
    looks = [photo(1), photo(2), photo(3), (photo(1).astype(int) + 5).clip(0, 255).astype("uint8")]
    rows = [
        Scored(str(n), "m", now(), "dropped", "", "x", descriptor=seen.descriptor)
        for n, seen in enumerate(judged(triage_model, *looks))
    ]
    assert most_alike(rows[0], rows, 2)[0].image == "3"
    assert most_alike(rows[0], [], 2) == []
    other_model = Scored("9", "another", now(), "dropped", "", "x", descriptor=rows[0].descriptor)
    assert most_alike(rows[0], [other_model], 2) == []


def test_likeness_counts_pooled_features_where_the_file_gives_them(triage_model):
    model = load_model(triage_model)
    looks = np.stack([np.zeros((32, 32), dtype=np.uint8)] * 3)
    plain = model.run(np.zeros((3, 32, 32, 3), dtype=np.uint8))
    scores = plain._replace(watched_features=np.array([[0, 1], [1, 0], [0.1, 1]], dtype=np.float32))
    rows = [
        Scored(str(n), "m", now(), "dropped", "", "x", descriptor=descriptor_of(model, scores, n, looks[n]))
        for n in range(3)
    ]
    assert [row.image for row in most_alike(rows[0], rows, 2)] == ["2", "1"]
    without = descriptor_of(model, plain._replace(watched_features=None), 0, looks[0])
    assert len(without) < len(rows[0].descriptor)
