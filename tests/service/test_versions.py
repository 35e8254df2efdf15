"""Model files by digest: which is in use, the way back, and kills at every moment of a change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.errors import DataError, UsageError
from service.versions import JOURNAL, Versions, only_one

ROOT = Path(__file__).parents[2]


@pytest.fixture
def three(tmp_path: Path) -> tuple[Versions, list[str]]:
    versions = Versions(tmp_path / "state" / "versions")
    digests = []
    for number in range(3):
        file = tmp_path / f"{number}.onnx"
        file.write_bytes(b"model" + bytes([number]) * 10_000)
        digests.append(versions.add(file, "test"))
    return versions, digests


def test_nothing_is_in_use_before_the_first(tmp_path):
    versions = Versions(tmp_path / "versions")
    assert (versions.in_use, versions.read().uses) == (None, ())
    with pytest.raises(UsageError, match="does not exist"):
        versions.add(tmp_path / "none.onnx", "test")


def test_use_and_back_and_further_back(three):
    versions, (a, b, c) = three
    for each in (a, b, c):
        versions.use(each, who="Ada")
    assert versions.back(who="Bo").in_use == b
    assert versions.back(who="Bo").in_use == a
    with pytest.raises(UsageError, match="no way back"):
        versions.back(who="Bo")
    assert versions.use(c, who="Ada").in_use == c
    journal = Versions(versions.folder).read()
    assert journal.before == a
    assert [(use.sha256, use.who, use.action) for use in journal.uses] == [
        (a, "Ada", "use"), (b, "Ada", "use"), (c, "Ada", "use"), (b, "Bo", "back"), (a, "Bo", "back"),
        (c, "Ada", "use"),
    ]  # fmt: skip
    assert [use.when for use in journal.uses] == sorted(use.when for use in journal.uses)


def test_a_second_click_changes_nothing(three):
    versions, (a, b, _) = three
    versions.use(a, who="Ada")
    versions.use(b, who="Ada")
    assert versions.use(b, who="Ada").uses == versions.read().uses
    assert len(versions.read().uses) == 2
    versions.back(who="Ada", leaving=b)
    assert versions.back(who="Ada", leaving=b).in_use == a  # the second tab still shows b


def test_the_same_file_is_kept_once(three, tmp_path):
    versions, (a, _, _) = three
    assert versions.add(tmp_path / "0.onnx", "again") == a
    assert len(versions.read().files) == 3


def test_an_altered_file_is_not_put_in_use(three):
    versions, (a, b, _) = three
    versions.use(a, who="Ada")
    versions.path_of(b).write_bytes(b"other")
    with pytest.raises(DataError, match="altered"):
        versions.use(b, who="Ada")
    assert versions.read().in_use == a
    with pytest.raises(UsageError, match="no model file"):
        versions.use("f" * 64, who="Ada")


def test_a_damaged_journal_is_said(three):
    versions, _ = three
    (versions.folder / JOURNAL).write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        versions.read()


def test_one_writer_at_a_time(tmp_path):
    with only_one(tmp_path / "lock"):
        code = (
            "import sys; from pathlib import Path; from service.versions import only_one\n"
            f"with only_one(Path({str(tmp_path / 'lock')!r}), wait=False): pass"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert "another job works there now" in done.stderr


# The n-th call of one of these is the last thing that the process does.
_KILLER = """
import os, signal, sys
from pathlib import Path
left = int(sys.argv[1])
def dying(function):
    def call(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call
os.fsync, os.open = dying(os.fsync), dying(os.open)
Path.replace, Path.open = dying(Path.replace), dying(Path.open)
from service.versions import Versions
versions = Versions(Path(sys.argv[2]))
new = versions.add(Path(sys.argv[3]), "killed")
versions.use(new, who="Ada")
versions.back(who="Bo")
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_killed_at_every_step_something_whole_is_in_use(three, tmp_path):
    versions, (a, _, _) = three
    versions.use(a, who="Ada")
    new = tmp_path / "new.onnx"
    seen = set()
    for step in range(200):
        new.write_bytes(b"new" + step.to_bytes(2, "big") * 9_000)
        done = subprocess.run(
            [sys.executable, "-c", _KILLER, str(step), versions.folder, new], cwd=ROOT, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        journal = versions.read()  # never damaged
        in_use = versions.in_use
        assert in_use is not None
        assert in_use.stem == journal.in_use
        # Whatever is in use can be put in use again: its bytes are whole.
        versions.use(journal.in_use, who="check")
        seen.add(journal.in_use == a)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.returncode == 0
    assert step > 8
    assert not list(versions.folder.glob(".*.tmp"))
    assert seen == {True, False}  # killed both before and after the new file was in use
