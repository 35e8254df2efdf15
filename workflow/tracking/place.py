"""Where tracked runs lie, and which of them are logged: known without MLflow, whose import takes seconds."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from contracts.errors import ModelError
from contracts.files import read_json, write_json

_SECONDS_TO_WAIT = 5.0


@dataclass(frozen=True)
class TrackingPlace:
    """Database, ledger and artifacts of the runs in one folder.

    Attributes:
        runs: the folder, as the user gave it.
    """

    runs: Path

    @property
    def database(self) -> Path:
        """MLflow's SQLite file, absolute."""
        return Path(os.path.abspath(self.runs)) / "tracking.db"  # noqa: PTH100

    @property
    def artifacts(self) -> Path:
        """Copies of files, one folder per experiment and run, absolute."""
        return self.database.with_name("tracking-artifacts")

    @property
    def ledger(self) -> Path:
        """Our own list of what is logged, so that a command with nothing new need not import MLflow."""
        return self.database.with_name("tracking.json")

    def uri(self, database: Path | None = None) -> str:
        """The address that MLflow takes.

        Raises:
            ModelError: SQLAlchemy, which MLflow uses, would read the path as something else.
        """
        path = str(database or self.database)
        if "?" in path:
            raise ModelError("a path with '?' cannot be an SQLite address. Use another --runs")
        return f"sqlite:///{path}"

    def logged(self) -> dict[str, str]:
        """Key of each run that is logged to its end → its folder, relative to :attr:`artifacts`.

        Without a database nothing is logged, whatever the ledger of an earlier one says.
        """
        return dict(read_json(self.ledger)) if self.database.exists() and self.ledger.exists() else {}

    def note_logged(self, key: str, folder: str) -> None:
        """Add a run to the ledger.

        Two commands at a time may lose each other's entry; the next command finds the run in MLflow then.
        """
        write_json(self.ledger, self.logged() | {key: folder})

    def check_readable(self) -> None:
        """Look whether the database, if there is one, can be opened; MLflow would try for minutes.

        Raises:
            sqlite3.Error: no database, or locked for longer than 5 seconds.
        """
        if self.database.exists():
            # mode=rw: without it SQLite would create an empty database and call it readable.
            address = f"file:{quote(str(self.database))}?mode=rw"
            with closing(sqlite3.connect(address, uri=True, timeout=_SECONDS_TO_WAIT)) as connection:
                connection.execute("PRAGMA schema_version").fetchone()


def copy_changed(files: Iterable[Path], folder: Path) -> None:
    """Copy files that ``folder`` lacks or holds another version of, each whole or not at all."""
    for file in files:
        target = folder / file.name
        was, now = target.stat() if target.exists() else None, file.stat()
        # Size and time, not content: model files are large, and copy2 keeps the time.
        if was and (was.st_size, was.st_mtime_ns) == (now.st_size, now.st_mtime_ns):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{file.name}.{os.getpid()}.tmp"
        try:
            shutil.copy2(file, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
