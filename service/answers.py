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

import json
import sqlite3
from collections.abc import Sequence

from contracts.errors import UsageError
from service.records import ANSWERS, AnsweredMeanwhileError, Entry, Scored
from service.store import Store, short

_LONGEST = 80
"""Characters of a name, a kind or a token."""

_ANY = -1

# Numbers of the entries that stand: per image the newest answer that nobody took back.
_STANDING = (
    "SELECT max(number) FROM entries WHERE answer != 'undo' AND number NOT IN "
    "(SELECT undoes FROM entries WHERE undoes IS NOT NULL) GROUP BY image"
)


class Answers(Store):
    """The store. See the module's docstring.

    Args:
        path: of the database, see :class:`service.store.Store`.
    """

    # ---- answers

    def add(
        self,
        image: str,
        answer: str,
        kind: str | None = None,
        *,
        who: str,
        when: str,
        token: str,
        seen: int | None = _ANY,
    ) -> Entry:
        """Record an answer; it is on disk when this returns.

        Args:
            image: digest of an image that :meth:`keep` has seen.
            answer: one of :data:`service.records.ANSWERS`.
            kind: a finer name of the minority; with ``minority`` only.
            who: the person.
            when: ISO time.
            token: random, chosen per answer. The same answer with the same token is recorded once.
            seen: number of the entry that stood when the person looked, None for none; where another stands
                by now, nothing is recorded. Left out, whatever stood is overruled.

        Returns:
            The entry: the first one, where the token is known.

        Raises:
            UsageError: no such answer or image, or a token that stands for another answer.
            AnsweredMeanwhileError: somebody answered since the person looked.
            DataError: the image's watched file has changed or gone, so the answer would stand on nothing.
        """
        if answer not in ANSWERS:
            raise UsageError(f"answer is {answer[:20]!r}; it is one of {', '.join(ANSWERS)}.")
        if kind and answer != "minority":
            raise UsageError(f"kind was given with '{answer}'; only the minority has kinds. Leave it out.")
        kind = short(kind, _LONGEST) if kind else None
        self.secure(image)
        return self._record(image, answer, kind, None, who, when, token, seen)

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
        self.image_row(image)
        with self._lock:
            known = self.rows("SELECT * FROM entries WHERE token = ?", (token,))
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
        rows = self.rows(f"SELECT * FROM entries WHERE number IN ({_STANDING}) ORDER BY number")
        return [_entry(row) for row in rows]

    def standing(self, image: str) -> Entry | None:
        """The answer that stands about one image, if there is one."""
        rows = self.rows(f"SELECT * FROM entries WHERE number IN ({_STANDING}) AND image = ?", (image,))
        return _entry(rows[0]) if rows else None

    def history(self, image: str | None = None) -> list[Entry]:
        """Every entry, oldest first; of one image where that is asked for."""
        where, values = ("", ()) if image is None else ("WHERE image = ?", (image,))
        return [_entry(row) for row in self.rows(f"SELECT * FROM entries {where} ORDER BY number", values)]

    def _record(
        self,
        image: str,
        answer: str,
        kind: str | None,
        undoes: int | None,
        who: str,
        when: str,
        token: str,
        seen: int | None = _ANY,
    ) -> Entry:
        if not token.strip() or len(token) > _LONGEST:
            raise UsageError(f"token: give 1 to {_LONGEST} characters, random, one per answer.")
        # A replay reads only, so ten thousand of them cost no write.
        known = self.rows("SELECT * FROM entries WHERE token = ?", (token,))
        if not known:
            with self.writing() as store:
                standing = None if seen == _ANY else self.standing(image)
                if seen not in (_ANY, standing and standing.number):
                    raise AnsweredMeanwhileError(image, standing)
                store.execute(
                    "INSERT INTO entries (image, answer, kind, who, at, token, undoes) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (token) DO NOTHING",
                    (image, answer, kind, short(who, _LONGEST), when, token, undoes),
                )
            known = self.rows("SELECT * FROM entries WHERE token = ?", (token,))
        entry = _entry(known[0])
        if (entry.image, entry.answer, entry.kind) != (image, answer, kind):
            raise UsageError("this token stands for another answer already. Choose a new one per answer.")
        return entry

    # ---- scores

    def add_scores(self, rows: Sequence[Scored]) -> None:
        """Record what a model said, all rows in one transaction; their images were seen by :meth:`keep`."""
        with self.writing() as store:
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
        return [_scored(row) for row in self.rows(query, (since, until))]

    def latest_scores(self, image: str | None = None, most: int | None = None) -> list[Scored]:
        """One row per image: the newest, oldest first.

        Args:
            image: of this one alone.
            most: of the images that were scored last, so many.
        """
        where, values = ("", ()) if image is None else ("WHERE image = ?", (image,))
        newest = f"SELECT max(number) FROM scored {where} GROUP BY image ORDER BY max(number) DESC LIMIT ?"
        query = f"SELECT * FROM scored WHERE number IN ({newest}) ORDER BY number"
        return [_scored(row) for row in self.rows(query, (*values, -1 if most is None else most))]

    def waiting(self, threshold: float, most: int) -> list[Scored]:
        """Newest scores of images that wait for an answer, and whose bytes were kept: unanswered or skipped.

        REVIEW and NOVEL come first, then those whose probability is nearest to the threshold (or, without
        probabilities, with the smallest p_normal).

        Args:
            threshold: of the probability.
            most: rows.
        """
        query = (
            "SELECT scored.* FROM scored JOIN images ON image = digest "
            "WHERE number IN (SELECT max(number) FROM scored GROUP BY image) "
            "AND (stored OR place IS NOT NULL) AND image NOT IN "
            f"(SELECT image FROM entries WHERE answer != 'skip' AND number IN ({_STANDING})) "
            "ORDER BY coalesce(triage IN ('REVIEW', 'NOVEL'), 0) DESC, "
            "CASE WHEN probability IS NULL THEN p_normal ELSE abs(probability - ?) END, number LIMIT ?"
        )
        return [_scored(row) for row in self.rows(query, (threshold, most))]

    def counts(self) -> dict[str, int]:
        """How many images are known, and of how many each answer stands."""
        answered = self.rows(
            f"SELECT answer, count(*) AS n FROM entries WHERE number IN ({_STANDING}) GROUP BY answer"
        )
        [images] = self.rows("SELECT count(DISTINCT image) AS n FROM scored")
        return {"images": images["n"]} | {row["answer"]: row["n"] for row in answered}

    def kinds(self) -> list[str]:
        """Kinds of the minority that people named, the most frequent first."""
        rows = self.rows(
            f"SELECT kind FROM entries WHERE kind IS NOT NULL AND number IN ({_STANDING}) "
            "GROUP BY kind ORDER BY count(*) DESC, kind"
        )
        return [row["kind"] for row in rows]


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
