"""The journal: looks are not repeated, changes are seen, a torn line does no harm."""

import json
import os
import shutil

import pytest

from imagedata import inspection
from imagedata.decoding.decode import DecodeSettings
from imagedata.inspection import InspectionJournal, broken
from tests import hostile
from tests.pictures import write_pictures

SETTINGS = DecodeSettings(32)


@pytest.fixture
def looks(monkeypatch) -> list[str]:
    """Names of the files that are really opened."""
    seen: list[str] = []
    look = inspection.inspect_file

    def counted(path, settings):
        seen.append(path.name)
        return look(path, settings)

    monkeypatch.setattr(inspection, "inspect_file", counted)
    return seen


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path / "set", 5, odd=False, seed=0)
    return tmp_path / "set"


def inspect(folder, settings=SETTINGS):
    names = sorted(path.name for path in folder.iterdir())
    return InspectionJournal(folder.parent / "journal.jsonl").inspect(folder, names, settings)


def test_second_look_opens_nothing(folder, looks):
    first = inspect(folder)
    size = (folder.parent / "journal.jsonl").stat().st_size
    assert len(looks) == 5
    assert inspect(folder) == first
    assert len(looks) == 5
    assert (folder.parent / "journal.jsonl").stat().st_size == size


def test_changed_file_is_looked_at_again(folder, looks):
    before = inspect(folder)
    file = folder / "002.png"
    content = bytearray(file.read_bytes())
    shutil.copy(folder / "003.png", file)
    os.utime(file, ns=(1, 1))
    after = inspect(folder)
    assert looks[5:] == ["002.png"]
    assert after["002.png"].sha256 == before["003.png"].sha256 != before["002.png"].sha256
    file.write_bytes(bytes(content))
    assert inspect(folder)["002.png"] == before["002.png"]


def test_other_window_is_another_look(folder, looks):
    inspect(folder)
    inspect(folder, DecodeSettings(32, (0.0, 4095.0)))
    assert len(looks) == 10
    inspect(folder, DecodeSettings(64))
    assert len(looks) == 10


def test_torn_last_line_is_passed_over_and_swallows_nothing(folder, looks):
    findings = inspect(folder)
    journal = folder.parent / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    assert inspect(folder) == findings
    assert len(looks) == 6
    assert inspect(folder) == findings
    assert len(looks) == 6


@pytest.mark.parametrize(
    "line", ["[]", "3", "null", '{"key": 1}', "{}", '{"key": "a", "sha256": 1}', "\x00\xff"]
)
def test_foreign_lines_are_passed_over(folder, looks, line):
    (folder.parent / "journal.jsonl").write_text(line + "\n", encoding="utf-8")
    assert len(inspect(folder)) == 5
    assert len(looks) == 5


def test_interrupted_look_goes_on_where_it_was(folder, looks, monkeypatch):
    write_pictures(folder, 595, odd=False, seed=1, start=5)
    names = sorted(path.name for path in folder.iterdir())
    done = 0

    def stop_late():
        nonlocal done
        done += 1
        if done == 300:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InspectionJournal(folder.parent / "journal.jsonl").inspect(folder, names, SETTINGS, stop_late)
    del looks[:]
    assert len(inspect(folder)) == 600
    assert len(looks) <= 300


def test_broken_files_are_findings_with_a_reason(folder):
    for name, content in hostile.broken_files().items():
        (folder / name).write_bytes(content)
    findings = inspect(folder)
    reasons = dict(broken(findings))
    assert sorted(reasons) == sorted(hostile.broken_files())
    assert all(reasons.values())
    lines = (folder.parent / "journal.jsonl").read_text().splitlines()
    assert all("key" in json.loads(line) for line in lines)


def test_missing_file_is_a_finding_that_is_not_remembered(folder, looks):
    journal = InspectionJournal(folder.parent / "journal.jsonl")
    assert "cannot be read" in journal.inspect(folder, ["new.png"], SETTINGS)["new.png"].problem
    shutil.copy(folder / "000.png", folder / "new.png")
    assert journal.inspect(folder, ["new.png"], SETTINGS)["new.png"].problem == ""


def test_file_that_could_not_be_read_is_tried_again(folder, monkeypatch):
    read = inspection.read_image_bytes

    def forbidden(path):
        raise inspection.ImageError("cannot be read: Permission denied.")

    monkeypatch.setattr(inspection, "read_image_bytes", forbidden)
    assert all(finding.problem for finding in inspect(folder).values())
    monkeypatch.setattr(inspection, "read_image_bytes", read)
    assert not any(finding.problem for finding in inspect(folder).values())
