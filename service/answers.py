"""What people answered about images and what the model said of them: on disk before anybody sees "saved".

One SQLite file, and beside it ``uploads/<digest>.<suffix>`` with the images themselves::

    answers = Answers(Path("service/answers.sqlite"))
    digest = answers.keep(data, name="cell 7.png", source="dropped", when=now())
    answers.add(digest, "minority", kind="crack", who="Ada", when=now(), token="5b1c…")
    answers.current()  # one row per image: the newest answer that stands
    answers.history()  # every entry ever made, undone ones too

**Never lost.** Each call that writes returns after its transaction is flushed to disk, so that a killed
process or a power cut loses nothing that was acknowledged. **Never twice.** Whoever answers chooses a
random token per answer and sends it again until it is acknowledged; a token that is known already changes
nothing. **Never deleted.** An undo is an entry of its own, which names the entry that it takes back; what
stood before that entry stands again.

Images are known by the SHA-256 of their bytes, so the same picture from two folders is one image. Times are
ISO 8601 in UTC (:func:`service.records.now`), and sort as text. Several threads and processes may use one
file.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from contracts.errors import DataError, UsageError
from contracts.files import atomic_writer
from service.records import ANSWERS, Entry, Image, Scored
from service.store_schema import open_store

UPLOADS = "uploads"
"""Folder beside the database with the bytes of images."""

_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST = {"name": 255, "who": 80, "kind": 80, "token": 80}


class Answers:
    """The store. See the module's docstring.

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
        with self._writing() as store:
            store.execute(
                "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET "
                "place = coalesce(excluded.place, place), look = coalesce(look, excluded.look)",
                (digest, suffix, _short("name", name), source, place and str(place), when, _signed(look)),
            )
        if stored:
            self._write(digest, data)
        return digest

    def _write(self, digest: str, data: bytes) -> None:
        """Put an image's bytes into ``uploads/``, whole or not at all."""
        target = self.uploads / f"{digest}{self._image_row(digest)['suffix']}"
        if not target.exists():
            with atomic_writer(target) as handle:
                handle.write(data)

    def image(self, digest: str) -> Image:
        """One image.

        Raises:
            UsageError: no such digest.
        """
        return self._to_image(self._image_row(digest))

    def images(self) -> list[Image]:
        """All images, in the order in which they were first seen."""
        return [self._to_image(row) for row in self._rows("SELECT * FROM images ORDER BY first_seen, digest")]

    def _image_row(self, digest: str) -> sqlite3.Row:
        rows = self._rows("SELECT * FROM images WHERE digest = ?", (digest,))
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

    # ---- answers

    def add(
        self, image: str, answer: str, kind: str | None = None, *, who: str, when: str, token: str
    ) -> Entry:
        """Record an answer; it is on disk when this returns.

        Args:
            image: digest of an image that :meth:`keep` has seen.
            answer: one of :data:`service.records.ANSWERS`.
            kind: a finer name of the minority; with ``minority`` only.
            who: the person.
            when: ISO time.
            token: random, chosen per answer. The same answer with the same token is recorded once.

        Returns:
            The entry: the first one, where the token is known.

        Raises:
            UsageError: no such answer or image, or a token that stands for another answer.
            DataError: the image's watched file has changed or gone, so the answer would stand on nothing.
        """
        if answer not in ANSWERS:
            raise UsageError(f"answer is {answer[:20]!r}; it is one of {', '.join(ANSWERS)}.")
        if kind and answer != "minority":
            raise UsageError(f"kind was given with '{answer}'; only the minority has kinds. Leave it out.")
        kind = _short("kind", kind) if kind else None
        self._secure(image)
        return self._record(image, answer, kind, None, who, when, token)

    def undo(self, image: str, of: int | None = None, *, who: str, when: str, token: str) -> Entry | None:
        """Take an answer back, by an entry of its own; what stood before it stands again.

        Args:
            image: digest.
            of: number of the entry; None for the one that stands.
            who: the person.
            when: ISO time.
            token: as in :meth:`add`.

        Returns:
            The entry, or None where nothing is there to be taken back, or it was already.

        Raises:
            UsageError: no such image, or an entry of another image.
        """
        self._image_row(image)
        with self._lock:
            known = self._rows("SELECT * FROM entries WHERE token = ?", (token,))
            if known:
                return _entry(known[0])
            standing = [entry for entry in self.history(image) if entry.answer != "undo"]
            if of is not None and of not in {entry.number for entry in standing}:
                raise UsageError(f"entry {of} is no answer about this image, so it cannot be taken back.")
            gone = {entry.undoes for entry in self.history(image)}
            standing = [
                entry for entry in standing if entry.number not in gone and of in (None, entry.number)
            ]
            if not standing:
                return None
            try:
                return self._record(image, "undo", None, standing[-1].number, who, when, token)
            except sqlite3.IntegrityError:  # another process took it back in between
                return None

    def current(self) -> list[Entry]:
        """One row per image with an answer: the newest that nobody took back, oldest first.

        ``skip`` and ``unsure`` are answers, too; whoever teaches a model takes ``normal`` and ``minority``.
        """
        rows = self._rows(
            "SELECT * FROM entries WHERE number IN (SELECT max(number) FROM entries WHERE answer != 'undo' "
            "AND number NOT IN (SELECT undoes FROM entries WHERE undoes IS NOT NULL) GROUP BY image) "
            "ORDER BY number"
        )
        return [_entry(row) for row in rows]

    def history(self, image: str | None = None) -> list[Entry]:
        """Every entry, oldest first; of one image where that is asked for."""
        where, values = ("", ()) if image is None else ("WHERE image = ?", (image,))
        return [_entry(row) for row in self._rows(f"SELECT * FROM entries {where} ORDER BY number", values)]

    def _record(
        self, image: str, answer: str, kind: str | None, undoes: int | None, who: str, when: str, token: str
    ) -> Entry:
        if not token.strip() or len(token) > _LONGEST["token"]:
            raise UsageError(f"token: give 1 to {_LONGEST['token']} characters, random, one per answer.")
        # A replay reads only, so ten thousand of them cost no write.
        known = self._rows("SELECT * FROM entries WHERE token = ?", (token,))
        if not known:
            with self._writing() as store:
                store.execute(
                    "INSERT INTO entries (image, answer, kind, who, at, token, undoes) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (token) DO NOTHING",
                    (image, answer, kind, _short("who", who), when, token, undoes),
                )
            known = self._rows("SELECT * FROM entries WHERE token = ?", (token,))
        entry = _entry(known[0])
        if (entry.image, entry.answer, entry.kind) != (image, answer, kind):
            raise UsageError("this token stands for another answer already. Choose a new one per answer.")
        return entry

    def _secure(self, digest: str) -> None:
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

    # ---- scores

    def add_scores(self, rows: Sequence[Scored]) -> None:
        """Record what a model said, all rows in one transaction; their images were seen by :meth:`keep`."""
        with self._writing() as store:
            store.executemany(
                "INSERT INTO scored (image, model, at, source, camera, decision, triage, probability, "
                "p_normal, p_minority, levels, members, descriptor) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        row.image, row.model, row.when, row.source, row.camera, row.decision, row.triage,
                        row.probability, row.p_normal, row.p_minority, json.dumps(dict(row.levels)),
                        json.dumps(dict(row.members)), row.descriptor,
                    )
                    for row in rows
                ],
            )  # fmt: skip

    def scores(self, since: str = "", until: str = "9999") -> list[Scored]:
        """Every scored row between two ISO times, oldest first: what charts over time read."""
        query = "SELECT * FROM scored WHERE at >= ? AND at < ? ORDER BY number"
        return [_scored(row) for row in self._rows(query, (since, until))]

    def latest_scores(self, image: str | None = None) -> list[Scored]:
        """One row per image: the newest, oldest first; of one image where that is asked for."""
        where, values = ("", ()) if image is None else ("WHERE image = ?", (image,))
        query = (
            f"SELECT * FROM scored WHERE number IN (SELECT max(number) FROM scored {where} GROUP BY image) "
            "ORDER BY number"
        )
        return [_scored(row) for row in self._rows(query, values)]

    # ---- the file

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on disk when the block has ended, or has left no trace."""
        with self._lock:
            self._store.execute("BEGIN IMMEDIATE")
            try:
                yield self._store
                self._store.execute("COMMIT")
            except BaseException:
                # A full disk ends some transactions by itself.
                if self._store.in_transaction:
                    self._store.execute("ROLLBACK")
                raise

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._store.execute(query, values).fetchall()


def _entry(row: sqlite3.Row) -> Entry:
    return Entry(
        row["number"], row["image"], row["answer"], row["kind"], row["who"], row["at"], row["token"],
        row["undoes"],
    )  # fmt: skip


def _scored(row: sqlite3.Row) -> Scored:
    facts = {key: row[key] for key in row.keys() if key not in ("at", "levels", "members")}  # noqa: SIM118
    return Scored(
        when=row["at"], levels=json.loads(row["levels"]), members=json.loads(row["members"]), **facts
    )


def _short(what: str, text: str) -> str:
    """Text without halves of surrogate pairs, which no database takes, and no longer than is shown."""
    return text.encode("utf-8", "replace").decode()[: _LONGEST[what]]


def _signed(look: int | None) -> int | None:
    """An unsigned number of 64 bits as SQLite holds it."""
    return None if look is None else look - (1 << 64) if look >= 1 << 63 else look
