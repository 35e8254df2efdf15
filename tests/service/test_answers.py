"""The store of answers: each once, none lost, none deleted."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from contracts.errors import DataError, UsageError
from service.answers import Answers
from service.records import AnsweredMeanwhileError, Scored, now


@pytest.fixture
def answers(tmp_path):
    store = Answers(tmp_path / "service" / "answers.sqlite")
    yield store
    store.close()


def kept(answers: Answers, content: bytes = b"picture", name: str = "cell.PNG", **facts) -> str:
    return answers.keep(content, name=name, source="dropped", when=now(), **facts)


def watched(answers: Answers, place: Path) -> str:
    return answers.keep(b"picture", name="c.png", source="watched", when=now(), place=place, stored=False)


def said(answers: Answers) -> dict[str, str]:
    return {entry.image: entry.answer for entry in answers.current()}


def test_an_image_is_known_by_its_bytes_and_kept_beside(answers, tmp_path):
    digest = kept(answers)
    assert digest == hashlib.sha256(b"picture").hexdigest()
    assert kept(answers, name="other name.png") == digest
    [image] = answers.images()
    assert image.file == tmp_path / "service" / "uploads" / f"{digest}.png"
    assert image.file.read_bytes() == b"picture"


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "a.png/../../b", "x" * 5000, "\ud800.png", "no\0.p\0g", ""]
)
def test_no_name_leads_out_of_uploads(answers, name):
    image = answers.image(kept(answers, name=name))
    assert image.file.parent == answers.uploads
    assert image.file.is_file()


def test_the_newest_answer_stands_and_history_keeps_all(answers):
    digest = kept(answers)
    answers.add(digest, "normal", who="Ada", when=now(), token="1")
    answers.add(digest, "minority", kind="crack", who="Bob", when=now(), token="2")
    [entry] = answers.current()
    assert (entry.answer, entry.kind, entry.who) == ("minority", "crack", "Bob")
    assert [each.answer for each in answers.history()] == ["normal", "minority"]


def test_undo_is_an_entry_and_what_stood_before_stands_again(answers):
    digest = kept(answers)
    answers.add(digest, "normal", who="Ada", when=now(), token="1")
    answers.add(digest, "minority", who="Ada", when=now(), token="2")
    undone = answers.undo(digest, who="Ada", when=now(), token="3")
    assert undone.undoes == 2
    assert said(answers) == {digest: "normal"}
    assert answers.undo(digest, who="Ada", when=now(), token="3") == undone, "a replay undoes once"
    assert said(answers) == {digest: "normal"}
    answers.undo(digest, who="Ada", when=now(), token="4")
    assert said(answers) == {}
    assert answers.undo(digest, who="Ada", when=now(), token="5") is None
    assert [each.answer for each in answers.history(digest)] == ["normal", "minority", "undo", "undo"]


def test_an_entry_that_is_not_the_newest_can_be_taken_back(answers):
    digest = kept(answers)
    first = answers.add(digest, "normal", who="tab one", when=now(), token="1")
    answers.add(digest, "minority", who="tab two", when=now(), token="2")
    answers.undo(digest, first.number, who="tab one", when=now(), token="3")
    assert said(answers) == {digest: "minority"}
    assert answers.undo(digest, first.number, who="tab one", when=now(), token="4") is None
    with pytest.raises(UsageError, match="entry 99 is no answer about this image"):
        answers.undo(digest, 99, who="Ada", when=now(), token="5")


def test_ten_thousand_replays_count_once(answers):
    digest = kept(answers)
    entries = {
        answers.add(digest, "normal", who="Ada", when=now(), token="same").number for _ in range(10_000)
    }
    assert len(entries) == len(answers.history()) == 1


def test_a_token_stands_for_one_answer(answers):
    digest = kept(answers)
    answers.add(digest, "normal", who="Ada", when=now(), token="same")
    with pytest.raises(UsageError, match="stands for another answer"):
        answers.add(digest, "minority", who="Ada", when=now(), token="same")
    assert said(answers) == {digest: "normal"}


def test_two_people_at_one_image(answers):
    digest = kept(answers)
    first = answers.add(digest, "normal", who="Ada", when=now(), token="1", seen=None)
    with pytest.raises(AnsweredMeanwhileError, match="is 'normal' by Ada since you looked"):
        answers.add(digest, "minority", who="Bob", when=now(), token="2", seen=None)
    answers.add(digest, "normal", who="Ada", when=now(), token="1", seen=None)  # a replay is no contradiction
    answers.add(digest, "minority", who="Bob", when=now(), token="2", seen=first.number)
    assert said(answers) == {digest: "minority"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"answer": "perhaps"}, "one of normal, minority, unsure, skip"),
        ({"answer": "undo"}, "one of normal, minority, unsure, skip"),
        ({"answer": "normal", "kind": "crack"}, "only the minority has kinds"),
        ({"answer": "normal", "token": " "}, "random, one per answer"),
        ({"answer": "normal", "image": "f" * 64}, "no image is known as ffff"),
        ({"answer": "normal", "image": "'; DROP TABLE entries; --"}, "no image is known as what was sent"),
    ],
)
def test_what_is_no_answer_is_refused(answers, given, message):
    given = {"image": kept(answers), "token": "1", "who": "Ada", "when": now()} | given
    with pytest.raises(UsageError, match=message):
        answers.add(**given)
    assert answers.history() == []


def test_a_watched_image_lies_where_it_is_until_somebody_answers(answers, tmp_path):
    place = tmp_path / "watched" / "cell.png"
    place.parent.mkdir()
    place.write_bytes(b"picture")
    digest = answers.keep(
        b"picture", name="cell.png", source="watched", when=now(), place=place, stored=False
    )
    assert answers.image(digest).file == place
    answers.add(digest, "normal", who="Ada", when=now(), token="1")
    place.unlink()
    assert answers.image(digest).file.read_bytes() == b"picture"


@pytest.mark.parametrize(("then", "message"), [(b"another", "has changed"), (None, "has gone")])
def test_no_answer_about_a_watched_image_that_is_no_more(answers, tmp_path, then, message):
    place = tmp_path / "cell.png"
    digest = answers.keep(
        b"picture", name="cell.png", source="watched", when=now(), place=place, stored=False
    )
    if then:
        place.write_bytes(then)
    with pytest.raises(DataError, match=message):
        answers.add(digest, "normal", who="Ada", when=now(), token="1")
    assert answers.current() == []


def test_scores_come_back_as_they_were(answers):
    digest, look = kept(answers, look=2**64 - 1), 2**64 - 1
    row = Scored(
        digest, "m" * 64, "2026-12-01T10:00:00", "http", "line 2", "cracked", "FAIL", 0.9, 0.01, 0.6,
        {"miss_rate": 0.05}, {"patchcore": 2.5}, b"\x01\x02",
    )  # fmt: skip
    later = Scored(digest, "m" * 64, "2026-12-02T10:00:00", "http", "line 2", "sound")
    answers.add_scores([row, later])
    first, second = answers.scores()
    assert first == Scored(**{**vars(row), "number": 1})
    assert second.probability is None
    assert [each.number for each in answers.latest_scores(digest)] == [2]
    assert [each.number for each in answers.scores(until="2026-12-02")] == [1]
    assert answers.image(digest).look == look


def test_a_newer_file_and_what_is_none_are_refused(tmp_path):
    path = tmp_path / "answers.sqlite"
    Answers(path).close()
    store = sqlite3.connect(path)
    store.execute("PRAGMA user_version=99")
    store.close()
    with pytest.raises(UsageError, match="has version 99"):
        Answers(path)
    (tmp_path / "none.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match="cannot be opened"):
        Answers(tmp_path / "none.sqlite")


def _answer_without_end(path: Path, acknowledged: Path, first: int) -> None:
    """Answer images 0…99 from ``first`` on, each acknowledged in a file after the store has returned."""
    answers = Answers(path)
    with acknowledged.open("a") as log:
        for number in range(first, 100):
            digest = kept(answers, b"%d" % number)
            answers.add(digest, "normal", who="Ada", when=now(), token=str(number))
            log.write(f"{number}\n")
            log.flush()


def test_a_hundred_answers_with_kills_between_them(tmp_path):
    path, acknowledged = tmp_path / "answers.sqlite", tmp_path / "acknowledged"
    acknowledged.touch()
    chance = random.Random(0)
    kills = 0
    spawn = multiprocessing.get_context("spawn")
    while (done := len(set(acknowledged.read_text().split()))) < 100:
        worker = spawn.Process(target=_answer_without_end, args=(path, acknowledged, done))
        worker.start()
        wanted, end = done + chance.randrange(5, 30), time.monotonic() + 60
        while len(acknowledged.read_text().split()) < wanted and worker.is_alive() and time.monotonic() < end:
            time.sleep(0.0005)
        if worker.is_alive():
            os.kill(worker.pid, signal.SIGKILL)
            kills += 1
        worker.join()
        known = {entry.token for entry in Answers(path).history()}
        assert set(acknowledged.read_text().split()) <= known, "acknowledged, and lost"
    assert kills
    assert sorted(int(entry.token) for entry in Answers(path).history()) == list(range(100))
    assert len(Answers(path).current()) == 100
