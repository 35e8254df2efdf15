"""Watched folders: whole files, once, and again after a start without scoring them twice."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.errors import UsageError
from service.engine.pool import FullError
from service.limits import Limits
from service.watching import Watcher

OLD = time.time() - 60


def put(path: Path, content: bytes = b"picture", when: float = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (when, when))
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "line").mkdir()
    return tmp_path / "line"


def watch(folder: Path, limits: Limits | None = None):
    taken: list[tuple[str, str]] = []
    watcher = Watcher(
        [folder], lambda data, place, below: taken.append((place.name, below)), limits or Limits()
    )
    return watcher, taken


def test_a_file_is_taken_once_it_is_settled_and_once_only(folder):
    watcher, taken = watch(folder)
    put(folder / "camera 1" / "a.png")
    put(folder / "b.jpg")
    put(folder / "notes.txt")
    put(folder / ".hidden.png")
    watcher.look()
    assert taken == [], "its size is seen for the first time"
    for _ in range(3):
        watcher.look()
    assert sorted(taken) == [("a.png", "camera 1"), ("b.jpg", "line")]


def test_a_file_that_still_grows_is_left_alone(folder):
    watcher, taken = watch(folder)
    for size in range(1, 4):
        put(folder / "a.png", b"x" * size, time.time())
        watcher.look()
    assert taken == []
    put(folder / "a.png", b"x" * 9)
    watcher.look()
    watcher.look()
    assert taken == [("a.png", "line")]


def test_a_file_that_changed_is_taken_again(folder):
    watcher, taken = watch(folder)
    put(folder / "a.png")
    watcher.look()
    watcher.look()
    put(folder / "a.png", b"another one")
    watcher.look()
    watcher.look()
    assert taken == [("a.png", "line")] * 2


def test_links_and_large_files_are_left_out(folder, tmp_path):
    watcher, taken = watch(folder, replace(Limits(), file_bytes=10))
    secret = put(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(secret)
    (folder / "elsewhere").symlink_to(tmp_path)
    put(folder / "large.png", bytes(11))
    watcher.look()
    watcher.look()
    assert taken == []
    assert watcher.contains(folder / "large.png")
    assert not watcher.contains(folder / "link.png")
    assert not watcher.contains(folder / ".." / "secret.png")


def test_when_too_much_waits_the_rest_is_asked_again(folder):
    calls = []

    def take(data, place, below):
        calls.append(place.name)
        if len(calls) == 1:
            raise FullError

    watcher = Watcher([folder], take, Limits())
    put(folder / "a.png")
    for _ in range(4):
        watcher.look()
    assert calls == ["a.png", "a.png"]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        watch(tmp_path / "none")
