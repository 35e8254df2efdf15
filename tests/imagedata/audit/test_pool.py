"""Workers: every file gets its facts; one that kills or stalls its reader is named, and no other suffers."""

import os
import signal
import time

import pytest

from imagedata.audit import pool
from imagedata.audit.facts import look_at_file
from tests.pictures import write_pictures

BLOCK_READER = pool._block_reader


def test_facts_are_those_of_a_plain_loop_whatever_the_number_of_workers(tmp_path):
    files = write_pictures(tmp_path, 70, odd=False, seed=0)
    (tmp_path / "broken.png").write_bytes(b"x")
    files.append(tmp_path / "broken.png")
    found = dict(pool.look_at_files(files, processes=2))
    assert found == {place: look_at_file(path) for place, path in enumerate(files)}


def test_no_files_need_no_worker():
    assert list(pool.look_at_files([])) == []


def deadly(path, window=None):
    if path.name in {"004.png", "011.png"}:
        os.kill(os.getpid(), signal.SIGKILL)
    if path.name == "007.png":
        time.sleep(60)
    if path.name == "009.png":
        raise ValueError("a decoder's fault")
    return look_at_file(path, window)


def sabotaged_reader(window):
    """What a worker prepares, with a reader that some files kill or hold up."""
    pool.look_at_file = deadly
    return BLOCK_READER(window)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
@pytest.mark.parametrize("files_per_block", [2, 64])
def test_failing_files_are_named_and_their_neighbours_unharmed(tmp_path, monkeypatch, files_per_block):
    monkeypatch.setattr(pool, "_FILES_PER_BLOCK", files_per_block)
    files = write_pictures(tmp_path, 12, odd=False, seed=0)
    monkeypatch.setattr(pool, "_block_reader", sabotaged_reader)
    found = dict(pool.look_at_files(files, processes=2, patience_s=2.0))
    assert sorted(found) == list(range(12))
    assert found[4].rule == found[11].rule == found[9].rule == "crashed"
    assert "SIGKILL" in found[4].problem
    assert found[9].problem == "made its reader fail (ValueError: a decoder's fault)."
    assert found[7].rule == "stalled"
    assert found[7].problem == "kept a process busy for more than 2 seconds."
    assert all(found[place].is_usable for place in range(12) if place not in {4, 7, 9, 11})
