"""Opening every file once: is it a whole image, how large, and which bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from contracts.errors import ImageError
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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (
            self.path.open("a", encoding="utf-8") as journal,
            ThreadPoolExecutor(max_workers=usable_cpus()) as pool,
        ):
            if _last_byte(self.path) not in {b"", b"\n"}:
                # A line torn by an earlier kill must not swallow the first new one.
                journal.write("\n")
            for start in range(0, len(wanted), 256):  # bounded look-ahead, whatever the number of files
                block = wanted[start : start + 256]
                for path, key, finding in pool.map(lambda p: self._one(root, p, settings), block):
                    if finding.sha256 and key not in self._known:
                        journal.write(json.dumps({"key": key, **asdict(finding)}) + "\n")
                        self._known[key] = finding
                    found[path] = finding
                    on_image()
                journal.flush()
        return found

    def _one(self, root: Path, path: str, settings: DecodeSettings) -> tuple[str, str, Inspection]:
        file = root / path
        try:
            stat = file.stat()
        except OSError as error:
            return path, path, Inspection("", 0, 0, "", f"cannot be read: {error.strerror or error}.")
        key = f"{file}|{stat.st_size}|{stat.st_mtime_ns}|{settings.window}"
        return path, key, self._known.get(key) or inspect_file(file, settings)


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as handle:
        handle.seek(max(0, handle.seek(0, os.SEEK_END) - 1))
        return handle.read(1)


def broken(findings: dict[str, Inspection]) -> Iterator[tuple[str, str]]:
    """Yield ``(path, problem)`` of the files that cannot be used, in path order."""
    for path in sorted(findings):
        if findings[path].problem:
            yield path, findings[path].problem
