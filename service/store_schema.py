"""The tables of the store of answers, by version, and how a file is opened so that nothing is lost."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from contracts.errors import DataError, UsageError

# One script per version; a file of version n needs those from position n on. Never change one that was
# released: add the next.
_SCRIPTS = (
    """
    CREATE TABLE images (
        digest     TEXT PRIMARY KEY,
        suffix     TEXT NOT NULL,
        name       TEXT NOT NULL,
        source     TEXT NOT NULL,
        place      TEXT,
        first_seen TEXT NOT NULL,
        look       INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE entries (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        image  TEXT NOT NULL REFERENCES images(digest),
        answer TEXT NOT NULL CHECK (answer IN ('normal', 'minority', 'unsure', 'skip', 'undo')),
        kind   TEXT,
        who    TEXT NOT NULL,
        at     TEXT NOT NULL,
        token  TEXT NOT NULL UNIQUE,
        undoes INTEGER REFERENCES entries(number),
        CHECK ((answer = 'undo') = (undoes IS NOT NULL))
    );
    CREATE UNIQUE INDEX undone_once ON entries(undoes) WHERE undoes IS NOT NULL;
    CREATE INDEX entries_of_image ON entries(image, number);
    CREATE TABLE scored (
        number      INTEGER PRIMARY KEY AUTOINCREMENT,
        image       TEXT NOT NULL REFERENCES images(digest),
        model       TEXT NOT NULL,
        at          TEXT NOT NULL,
        source      TEXT NOT NULL,
        camera      TEXT NOT NULL,
        decision    TEXT NOT NULL,
        triage      TEXT,
        probability REAL,
        p_normal    REAL,
        p_minority  REAL,
        levels      TEXT NOT NULL,
        members     TEXT NOT NULL,
        descriptor  BLOB
    );
    CREATE INDEX scored_of_image ON scored(image, number);
    CREATE INDEX scored_over_time ON scored(at);
    """,
    # Whether the bytes lie in uploads/: what came over HTTP and needs no eyes is not kept.
    "ALTER TABLE images ADD COLUMN stored INTEGER NOT NULL DEFAULT 1;",
)

VERSION = len(_SCRIPTS)
"""Of the tables that this code reads and writes."""


def open_store(path: Path) -> sqlite3.Connection:
    """Open or make the database.

    Each commit is on the disk before it returns: the write-ahead log is flushed by ``synchronous=FULL``.
    Readers never wait for a writer, and a second writer waits up to half a minute.

    Raises:
        UsageError: a newer version of this program wrote it.
        DataError: not a database, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Transactions are ours to begin and end; several threads share the connection behind a lock.
        store = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
        store.row_factory = sqlite3.Row
        store.execute("PRAGMA journal_mode=WAL")
        store.execute("PRAGMA synchronous=FULL")
        store.execute("PRAGMA foreign_keys=ON")
        _bring_up_to_date(store, path)
    except (sqlite3.Error, OSError) as error:
        raise DataError(
            f"{path}: the store of answers cannot be opened ({error}). Name another folder, or make it "
            "writable."
        ) from error
    return store


def _bring_up_to_date(store: sqlite3.Connection, path: Path) -> None:
    """Make the tables that are missing; two processes at once make them once."""
    store.execute("BEGIN IMMEDIATE")
    try:
        version = int(store.execute("PRAGMA user_version").fetchone()[0])
        if version > VERSION:
            raise UsageError(
                f"{path} has version {version}; this program reads up to {VERSION}. Update the program."
            )
        for script in _SCRIPTS[version:]:
            # Not executescript, which would commit first and so give up the lock.
            for statement in filter(str.strip, script.split(";")):
                store.execute(statement)
        store.execute(f"PRAGMA user_version={VERSION}")
        store.execute("COMMIT")
    except BaseException:
        store.execute("ROLLBACK")
        raise
