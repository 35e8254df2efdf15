"""Which model file is in use, which were before, and by whom and when each was put there.

A folder beside the store of answers keeps every file by its digest, and one small journal::

    versions/
      <sha256>.onnx     never changed once it is there
      versions.json     {format, files: [{sha256, added, name, origin}], uses: [{sha256, when, who, action}]}

**Whole at every moment.** A file is copied to a temporary name, flushed and renamed before the journal names
it, and the journal is written the same way. Whoever is killed in between leaves the old journal, under which
the old file is in use, and at most a file that nobody names, which the next :meth:`Versions.add` of the same
file finds there. A lock on the folder keeps two writers apart.

**Back and forth.** Putting a file in use adds an entry; going back adds another one, so the journal is a
history. Going back twice goes to the file before that, as undo does in an editor.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from contracts.errors import DataError, UsageError
from contracts.files import atomic_writer, read_json, sha256_of_file, write_json
from service.records import now

JOURNAL = "versions.json"
_FORMAT = 1
_LOCK = ".lock"

Action = Literal["use", "back"]


@dataclass(frozen=True)
class ModelFile:
    """One file that is kept.

    Attributes:
        sha256: of its bytes, and its name.
        added: ISO time.
        name: where it was copied from; for people.
        origin: why it is there, such as ``start`` or ``apply``; for people.
    """

    sha256: str
    added: str
    name: str
    origin: str


@dataclass(frozen=True)
class Use:
    """One time that a file was put in use.

    Attributes:
        sha256: of the file.
        when: ISO time.
        who: the person, as they gave their name.
        action: ``use``, or ``back`` where the file before was taken up again.
    """

    sha256: str
    when: str
    who: str
    action: Action


@dataclass(frozen=True)
class Journal:
    """What the folder holds, at one moment.

    Attributes:
        files: in the order in which they were added.
        uses: oldest first.
    """

    files: tuple[ModelFile, ...] = ()
    uses: tuple[Use, ...] = ()

    @property
    def stack(self) -> list[str]:
        """Files in use one upon the other: the last one is in use, and going back uncovers the one before."""
        found: list[str] = []
        for use in self.uses:
            if use.action == "back":
                found.pop()
            else:
                found.append(use.sha256)
        return found

    @property
    def in_use(self) -> str | None:
        """Digest of the file in use; None before the first."""
        return self.stack[-1] if self.stack else None

    @property
    def before(self) -> str | None:
        """Digest of the file that going back would put in use; None where there is none."""
        return self.stack[-2] if len(self.stack) > 1 else None


class Versions:
    """The folder. Several processes may use it.

    Args:
        folder: made when something is first added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def read(self) -> Journal:
        """The journal as it is now; empty where nothing was added yet.

        Raises:
            DataError: it was edited or is of another version.
        """
        path = self.folder / JOURNAL
        if not path.exists():
            return Journal()
        try:
            document: dict[str, Any] = read_json(path)
            journal = Journal(
                tuple(ModelFile(**each) for each in document["files"]),
                tuple(Use(**each) for each in document["uses"]),
            )
            known = {each.sha256 for each in journal.files}
            whole = document["format"] == _FORMAT and all(use.sha256 in known for use in journal.uses)
            _ = journal.stack
        except (ValueError, KeyError, TypeError, IndexError):
            whole = False
        if not whole:
            raise DataError(f"{path} is damaged, or of another version. Restore it from a backup.")
        return journal

    def path_of(self, sha256: str) -> Path:
        """Where a file lies.

        Raises:
            UsageError: no such file is kept.
        """
        known = {each.sha256 for each in self.read().files}
        if sha256 not in known:
            raise UsageError(
                f"{self.folder}: no model file {sha256[:12]} is kept. Choose one of those listed."
            )
        return self.folder / f"{sha256}.onnx"

    @property
    def in_use(self) -> Path | None:
        """The file in use; None before the first."""
        sha256 = self.read().in_use
        return None if sha256 is None else self.folder / f"{sha256}.onnx"

    def take_up(self, model: Path) -> Path:
        """The file that a service starts with, when it is given one.

        A file that was never kept before was put there by whoever runs the machine, and is put in use. One
        that is known changes nothing: the file in use is what people chose on the page.

        Args:
            model: what the service was started with.
        """
        known = {each.sha256 for each in self.read().files}
        sha256 = self.add(model, "start")
        if sha256 not in known or self.read().in_use is None:
            self.use(sha256, who="start")
        found = self.in_use
        assert found is not None  # put there just now, or before
        return found

    def add(self, model: Path, origin: str) -> str:
        """Keep a copy of a model file; one that is kept already is not copied again.

        Args:
            model: the file, which stays where it is.
            origin: why it is added, for people.

        Returns:
            Its digest.

        Raises:
            UsageError: there is no such file.
            DataError: it changed while it was copied, or the folder cannot be written.
        """
        if not model.is_file():
            raise UsageError(f"model {model} does not exist. Name an exported ONNX file.")
        with self._writing() as journal:
            sha256 = sha256_of_file(model)
            target = self.folder / f"{sha256}.onnx"
            if not target.exists():
                with model.open("rb") as source, atomic_writer(target) as handle:
                    shutil.copyfileobj(source, handle)
            if sha256_of_file(target) != sha256:
                target.unlink()
                raise DataError(f"{model}: it changed while it was copied. Do that again.")
            if sha256 not in {each.sha256 for each in journal.files}:
                files = (*journal.files, ModelFile(sha256, now(), str(model), origin))
                self._write(Journal(files, journal.uses))
        return sha256

    def use(self, sha256: str, *, who: str) -> Journal:
        """Put a kept file in use; the one that is in use already stays, and nothing is written.

        Args:
            sha256: of a file that :meth:`add` keeps.
            who: the person.

        Raises:
            UsageError: no such file is kept.
            DataError: its bytes are not those that were kept.
        """
        with self._writing() as journal:
            path = self.path_of(sha256)
            if not path.is_file() or sha256_of_file(path) != sha256:
                raise DataError(f"{path}: missing or altered since it was kept. Restore it from a backup.")
            if journal.in_use == sha256:
                return journal
            return self._write(Journal(journal.files, (*journal.uses, Use(sha256, now(), who, "use"))))

    def back(self, *, who: str, leaving: str | None = None) -> Journal:
        """Put the file in use that was before the one that is now.

        Args:
            who: the person.
            leaving: digest of the file that the person saw in use; a second click, or a second tab, that
                leaves another one than is in use now changes nothing.

        Raises:
            UsageError: there is none before it.
            DataError: its bytes are not those that were kept.
        """
        with self._writing() as journal:
            if leaving is not None and journal.in_use != leaving:
                return journal
            sha256 = journal.before
            if sha256 is None:
                raise UsageError(
                    f"{self.folder}: no file was in use before this one, so there is no way back."
                )
            path = self.folder / f"{sha256}.onnx"
            if not path.is_file() or sha256_of_file(path) != sha256:
                raise DataError(f"{path}: missing or altered since it was kept. Restore it from a backup.")
            return self._write(Journal(journal.files, (*journal.uses, Use(sha256, now(), who, "back"))))

    def _write(self, journal: Journal) -> Journal:
        write_json(
            self.folder / JOURNAL,
            {
                "format": _FORMAT,
                "files": [asdict(each) for each in journal.files],
                "uses": [asdict(each) for each in journal.uses],
            },
        )
        return journal

    @contextmanager
    def _writing(self) -> Iterator[Journal]:
        """Hold the folder against other writers; the journal as it is then."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with only_one(self.folder / _LOCK):
            for leftover in self.folder.glob(".*.tmp"):
                # Of a process that was killed: nobody else writes while the lock is held.
                leftover.unlink(missing_ok=True)
            yield self.read()


@contextmanager
def only_one(lock: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file while the block runs; the system lets go of it when the process dies.

    Args:
        lock: the file; it stays.
        wait: for whoever holds it; else that is an error.

    Raises:
        UsageError: somebody holds it, and ``wait`` is False.
    """
    if sys.platform == "win32":  # no such lock there; every file is whole all the same
        yield
        return
    import fcntl

    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise UsageError(
                f"{lock.parent}: another job works there now. Wait until it has ended."
            ) from None
        yield
    finally:
        os.close(descriptor)
