"""Opening every file once: is it a whole image, how large, and which bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from contracts.errors import ImageError
from contracts.files import sha256_of_file
from contracts.machine import usable_cpus
from imagedata.decoding.decode import DecodeSettings, decode_bytes, read_image_bytes


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one look at a file found.

    Attributes:
        sha256: of the file's bytes; empty when it could not be read.
        width: stored width in pixels; 0 when broken.
        height: stored height in pixels; 0 when broken.
        mode: Pillow's pixel type; empty when broken.
        problem: why the file cannot be used; empty when it can.
    """

    sha256: str
    width: int
    height: int
    mode: str
    problem: str


def inspect_file(path: Path, settings: DecodeSettings) -> Inspection:
    """Read, hash and decode one file; a broken one is a finding, not an error."""
    try:
        data = read_image_bytes(path)
    except ImageError as error:
        return Inspection("", 0, 0, "", str(error))
    digest = hashlib.sha256(data).hexdigest()
    try:
        decoded = decode_bytes(data, settings)
    except ImageError as error:
        return Inspection(digest, 0, 0, "", str(error))
    return Inspection(digest, decoded.width, decoded.height, decoded.mode, "")


class InspectionJournal:
    """Findings kept on disk, one per line, so that an interrupted inspection continues where it was.

    A finding is reused as long as the file's path, size and modification time are the same. A torn
    last line (``kill -9`` in the middle of a write) is skipped. That a file could not be read is not
    remembered: permissions and mounts are fixed without touching the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Inspection] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    entry = json.loads(line)
                    key = entry.pop("key")
                    self._known[key] = Inspection(**entry)
                except (json.JSONDecodeError, TypeError, KeyError, AttributeError):
                    continue

    def inspect(
        self,
        root: Path,
        paths: Iterable[str],
        settings: DecodeSettings,
        on_image: Callable[[], None] = lambda: None,
    ) -> dict[str, Inspection]:
        """Inspect files, several at a time.

        Args:
            root: folder that ``paths`` are relative to.
            paths: relative paths with forward slashes.
            settings: how they will be decoded later; a file that decodes here decodes there.
            on_image: called once per file, for progress.

        Returns:
            Path → finding, for every path.
        """
        wanted = list(paths)
        found: dict[str, Inspection] = {}
        with self._appending() as keep, ThreadPoolExecutor(max_workers=usable_cpus()) as pool:
            for start in range(0, len(wanted), 256):  # bounded look-ahead, whatever the number of files
                block = wanted[start : start + 256]
                # Threads suffice: hashing and decoding release the interpreter's lock.
                for path, key, finding in pool.map(lambda p: self._one(root, p, settings), block):
                    if finding.sha256:
                        keep(key, finding)
                    found[path] = finding
                    on_image()
        return found

    def digests(
        self,
        root: Path,
        expected: Mapping[str, Inspection],
        settings: DecodeSettings,
        on_image: Callable[[], None] = lambda: None,
    ) -> dict[str, str]:
        """SHA-256 of files, of which only those that the journal does not know are read; none is decoded.

        Args:
            root: folder that the paths are relative to.
            expected: path → what an earlier inspection found. A file that still has these bytes is noted in
                the journal with this finding, so that it is neither read nor decoded again.
            settings: how the files will be decoded later.
            on_image: called once per file, for progress.

        Returns:
            Path → digest; empty where the file cannot be read.
        """
        found: dict[str, str] = {}
        unknown: list[tuple[str, str]] = []
        base = os.path.join(root, "")  # noqa: PTH118  # joining paths as text is ten times as fast
        for path in expected:
            try:
                key = _key(base + path, os.stat(base + path), settings)  # noqa: PTH116
            except OSError:
                found[path] = ""
                continue
            known = self._known.get(key)
            if known is None:
                unknown.append((path, key))
            else:
                found[path] = known.sha256
                on_image()
        if not unknown:
            return found
        with self._appending() as keep, ThreadPoolExecutor(max_workers=usable_cpus()) as pool:
            digests = pool.map(lambda each: _readable_digest(root / each[0]), unknown)
            for (path, key), digest in zip(unknown, digests, strict=True):
                found[path] = digest
                if digest == expected[path].sha256:
                    keep(key, expected[path])
                on_image()
        return found

    @contextmanager
    def _appending(self) -> Iterator[Callable[[str, Inspection], None]]:
        """Open the journal; yields what notes a finding under its key, unless it is known already."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as journal:
            if _last_byte(self.path) not in {b"", b"\n"}:
                # A line torn by an earlier kill must not swallow the first new one.
                journal.write("\n")
            kept = 0

            def keep(key: str, finding: Inspection) -> None:
                nonlocal kept
                if key not in self._known:
                    journal.write(json.dumps({"key": key, **asdict(finding)}) + "\n")
                    self._known[key] = finding
                    kept += 1
                    if kept % 256 == 0:
                        journal.flush()

            yield keep

    def _one(self, root: Path, path: str, settings: DecodeSettings) -> tuple[str, str, Inspection]:
        file = root / path
        try:
            stat = file.stat()
        except OSError as error:
            return path, path, Inspection("", 0, 0, "", f"cannot be read: {error.strerror or error}.")
        key = _key(str(file), stat, settings)
        return path, key, self._known.get(key) or inspect_file(file, settings)


def _key(file: str, stat: os.stat_result, settings: DecodeSettings) -> str:
    """What a finding depends on: another size or time may be another file."""
    region = f"|{settings.region.digest}" if settings.region else ""
    return f"{file}|{stat.st_size}|{stat.st_mtime_ns}|{settings.window}{region}"


def _readable_digest(file: Path) -> str:
    """SHA-256 of a file's bytes; empty where it cannot be read."""
    try:
        return sha256_of_file(file)
    except OSError:
        return ""


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as handle:
        handle.seek(max(0, handle.seek(0, os.SEEK_END) - 1))
        return handle.read(1)


def broken(findings: dict[str, Inspection]) -> Iterator[tuple[str, str]]:
    """Yield ``(path, problem)`` of the files that cannot be used, in path order."""
    for path in sorted(findings):
        if findings[path].problem:
            yield path, findings[path].problem
