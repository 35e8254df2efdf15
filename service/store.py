"""The file below :class:`service.answers.Answers`: transactions, and the images that everything is about."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from contracts.errors import DataError, UsageError
from contracts.files import atomic_writer
from service.records import Image
from service.store_schema import open_store

UPLOADS = "uploads"
"""Folder beside the database with the bytes of images."""

_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Store:
    """One SQLite file and the folder of images beside it.

    Args:
        path: of the database; made where it is not there, and so is its folder.

    Raises:
        UsageError: written by a newer version of this program.
        DataError: no database, or not writable.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.uploads = self.path.parent / UPLOADS
        self._lock = threading.RLock()
        self._store = open_store(self.path)

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        with self._lock:
            self._store.close()

    # ---- images

    def keep(
        self,
        data: bytes,
        *,
        name: str,
        source: str,
        when: str,
        place: Path | None = None,
        look: int | None = None,
        stored: bool = True,
    ) -> str:
        """Note an image, and keep its bytes; the same bytes again change nothing but what was not known.

        Args:
            data: the file.
            name: as it came. Only its ending is used, and only where that is a plain one.
            source: ``dropped``, ``http`` or ``watched``.
            when: ISO time.
            place: path in a watched folder.
            look: perceptual hash.
            stored: also write the bytes; a watched file lies where it is until somebody answers about it.

        Returns:
            Its digest.
        """
        digest = hashlib.sha256(data).hexdigest()
        suffix = Path(name).suffix.lower()
        suffix = suffix if _SUFFIX.fullmatch(suffix) else ".img"
        with self.writing() as store:
            store.execute(
                "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET "
                "place = coalesce(excluded.place, place), look = coalesce(look, excluded.look), "
                "stored = max(stored, excluded.stored)",
                (
                    digest, suffix, short(name, 255), source, place and str(place), when, _signed(look),
                    int(stored),
                ),
            )  # fmt: skip
        if stored:
            self._write(digest, data)
        return digest

    def _write(self, digest: str, data: bytes) -> None:
        """Put an image's bytes into ``uploads/``, whole or not at all."""
        target = self.uploads / f"{digest}{self.image_row(digest)['suffix']}"
        if not target.exists():
            with atomic_writer(target) as handle:
                handle.write(data)

    def image(self, digest: str) -> Image:
        """One image.

        Raises:
            UsageError: no such digest.
        """
        return self._to_image(self.image_row(digest))

    def images(self) -> list[Image]:
        """All images, in the order in which they were first seen."""
        return [self._to_image(row) for row in self.rows("SELECT * FROM images ORDER BY first_seen, digest")]

    def image_row(self, digest: str) -> sqlite3.Row:
        """One row of the table of images.

        Raises:
            UsageError: no such digest.
        """
        rows = self.rows("SELECT * FROM images WHERE digest = ?", (digest,))
        if not rows:
            shown = digest if _DIGEST.fullmatch(digest) else "what was sent"
            raise UsageError(f"no image is known as {shown}. Send the image first.")
        return rows[0]

    def _to_image(self, row: sqlite3.Row) -> Image:
        place = Path(row["place"]) if row["place"] else None
        stored = self.uploads / f"{row['digest']}{row['suffix']}"
        file = stored if place is None or stored.exists() else place
        look = None if row["look"] is None else row["look"] & (2**64 - 1)
        return Image(row["digest"], row["name"], row["source"], place, file, look)

    def secure(self, digest: str) -> None:
        """Keep the bytes of a watched image before an answer stands on them."""
        image = self.image(digest)
        if image.place is None or image.file != image.place:
            return
        try:
            data = image.place.read_bytes()
        except OSError as error:
            raise DataError(
                f"{image.name}: {error.strerror}. It has gone from the watched folder."
            ) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise DataError(f"{image.name}: the file has changed since it was scored. Score it again.")
        self._write(digest, data)

    # ---- the file

    @property
    def changes(self) -> int:
        """A number that grows with whatever is written through this object."""
        return self._store.total_changes

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make all that is written in the block one transaction: one flush to disk instead of many."""
        with self.writing():
            yield

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on disk when the block has ended, or has left no trace."""
        with self._lock:
            if self._store.in_transaction:
                yield self._store
                return
            self._store.execute("BEGIN IMMEDIATE")
            try:
                yield self._store
                self._store.execute("COMMIT")
            except BaseException:
                # A full disk ends some transactions by itself.
                if self._store.in_transaction:
                    self._store.execute("ROLLBACK")
                raise

    def rows(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """All rows of a query that reads."""
        with self._lock:
            return self._store.execute(query, values).fetchall()


def short(text: str, longest: int) -> str:
    """Text without halves of surrogate pairs, which no database takes, and no longer than is shown."""
    return text.encode("utf-8", "replace").decode()[:longest]


def _signed(look: int | None) -> int | None:
    """An unsigned number of 64 bits as SQLite holds it."""
    return None if look is None else look - (1 << 64) if look >= 1 << 63 else look
