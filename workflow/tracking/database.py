"""Where tracked runs lie, and what can be known of them without MLflow, whose import takes seconds.

The tables are MLflow's; only three columns of them are read here, and two are written when the folder
of runs was moved or copied, as MLflow keeps absolute addresses.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlparse
from urllib.request import url2pathname

from contracts.errors import ModelError

KEY_TAG = "outnumbered.key"
_SECONDS_TO_WAIT = 5.0


@dataclass(frozen=True)
class TrackingPlace:
    """Database and artifacts of the runs in one folder.

    Attributes:
        runs: the folder, as the user gave it.
    """

    runs: Path

    @property
    def database(self) -> Path:
        """The SQLite file, absolute."""
        return Path(os.path.abspath(self.runs)) / "tracking.db"  # noqa: PTH100

    @property
    def artifacts(self) -> Path:
        """Copies of files, a folder a data set and run, absolute."""
        return self.database.with_name("tracking-artifacts")

    def uri(self, database: Path | None = None) -> str:
        """The address that MLflow and SQLAlchemy take.

        Raises:
            ModelError: SQLAlchemy would read the path as something else.
        """
        path = str(database or self.database)
        if "?" in path:
            raise ModelError("a path with '?' cannot be an SQLite address. Use another --runs")
        return f"sqlite:///{path}"

    def finished_runs(self) -> dict[str, Path | None]:
        """Key of each run that was logged to its end → folder of its files; None for runs deleted there.

        Raises:
            sqlite3.Error: no database, or locked for longer than 5 seconds.
        """
        if not self.database.exists():
            return {}
        with closing(self._connect("ro")) as connection:
            if not _has_tables(connection):
                return {}
            rows = connection.execute(
                "SELECT tags.value, runs.artifact_uri, runs.lifecycle_stage FROM tags "
                "JOIN runs ON runs.run_uuid = tags.run_uuid "
                "WHERE tags.key = ? AND runs.status IN ('FINISHED', 'FAILED')",
                (KEY_TAG,),
            ).fetchall()
        return {key: folder_of(uri) if stage == "active" else None for key, uri, stage in rows}

    def follow_move(self) -> None:
        """Rewrite the addresses of artifacts where the folder of runs lies elsewhere than it used to.

        Without this a copied folder of runs would go on writing into the one it was copied from.
        """
        if not self.database.exists():
            return
        with closing(self._connect("rw")) as connection, connection:
            if not _has_tables(connection):
                return
            # MLflow makes experiment 0 with the database, in the root that all others lie in.
            first = connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0")
            row = first.fetchone()
            was, now = row[0].rsplit("/", 1)[0] if row else "", self.artifacts.as_uri()
            if not was or was == now:
                return
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (now, len(was) + 1, len(was) + 1, was + "/"),
                )

    def _connect(self, mode: str) -> sqlite3.Connection:
        address = f"file:{quote(str(self.database))}?mode={mode}"
        return sqlite3.connect(address, uri=True, timeout=_SECONDS_TO_WAIT)


def _has_tables(connection: sqlite3.Connection) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('experiments', 'runs', 'tags')"
    )
    return bool(found.fetchone()[0] == 3)


def folder_of(artifact_uri: str) -> Path:
    """The local folder of a ``file:`` address."""
    return Path(url2pathname(urlparse(artifact_uri).path))


def copy_changed(files: Iterable[Path], folder: Path) -> None:
    """Copy files that ``folder`` lacks or holds another version of, each whole or not at all."""
    for file in files:
        target = folder / file.name
        was, now = target.stat() if target.exists() else None, file.stat()
        if was and (was.st_size, was.st_mtime_ns) == (now.st_size, now.st_mtime_ns):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{file.name}.{os.getpid()}.tmp"
        try:
            shutil.copy2(file, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
