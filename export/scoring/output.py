"""The folder that results go to: whose results it holds, which shards are finished, who writes now.

``_plan.json``, the manifest, is one JSON document:

=============  ==================================================================================
``format``     version of this document, now 1
``schema``     version of the part files' columns, now 2; raised when columns change
``columns``    name and Arrow type of each column of the parts, in order
``settings``   what decides the scores beside the pixels: :class:`~export.scoring.plan.ScoreSettings`
``images``     number of rows of all parts together
``shards``     ids of the parts, in the order of the plan; ``part-<id>.parquet``, compressed with zstd
=============  ==================================================================================

Names that begin with an underscore are no part of the table for readers of parquet data sets.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import UsageError
from contracts.files import read_json, write_json
from export.scoring.plan import SCHEMA_VERSION, ScoreSettings, Shard
from export.scoring.shard import ShardResult, read_shard_result, writing_failed

PLAN_NAME = "_plan.json"
"""The leading underscore keeps it out of the data set when the folder is read as one."""

REVIEW_NAME = "_review.csv"
"""The images that a person should look at first; see :mod:`export.scoring.csv_files`."""

WATCH_NAME = "_watch.json"
"""How the images compare with training; see :mod:`export.scoring.watch.finished`."""

HEAT_MAPS_NAME = "_heat_maps"
"""Folder of pictures; see :mod:`export.scoring.heat_maps`."""

_PART_NAME = re.compile(r"part-[0-9a-f]{16}\.parquet")
_LEFTOVER_NAME = re.compile(
    r"\.(part-[0-9a-f]{16}\.parquet|_plan\.json|_watch\.json|_review\.csv|_heat_maps)\.\d+\.tmp"
)


class OutputFolder:
    """A results folder that this run alone writes to; get one from :meth:`claimed`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @contextmanager
    def claimed(cls, path: Path) -> Iterator[OutputFolder]:
        """Make the folder when missing and hold it against other runs until the block ends.

        Raises:
            UsageError: it is a file, or another run writes to it now.
            DataError: it cannot be made or opened.
        """
        if path.exists() and not path.is_dir():
            raise UsageError(f"output {path} is a file. Name a folder; it is made when missing.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise writing_failed(path, error) from error
        with _only_writer(path):
            folder = cls(path)
            folder._remove_leftovers()
            try:
                yield folder
            finally:
                folder._remove_leftovers()

    def clear(self) -> None:
        """Delete an earlier run's results; files that are not ours stay.

        The plan goes last: killed half-way, the folder still says whose the remaining parts are.
        """
        for part in self._parts():
            part.unlink()
        for name in (REVIEW_NAME, WATCH_NAME):
            (self.path / name).unlink(missing_ok=True)
        if (self.path / HEAT_MAPS_NAME).is_dir():
            shutil.rmtree(self.path / HEAT_MAPS_NAME)
        (self.path / PLAN_NAME).unlink(missing_ok=True)

    def take_up(
        self, settings: ScoreSettings, shards: Sequence[Shard], columns: pa.Schema
    ) -> Mapping[str, ShardResult]:
        """Find out which shards earlier runs have finished, and write the plan.

        Args:
            settings: of this run.
            shards: all shards of this run.
            columns: of the part files.

        Returns:
            Counts of the finished shards, by shard id.

        Raises:
            UsageError: the folder holds results of something else, or files that are not ours.
            DataError: the plan cannot be written.
        """
        # Before anything is written: a plan beside foreign parts would claim them.
        self._refuse_other_results({shard.file_name for shard in shards})
        finished = {}
        for shard in shards:
            part = self.path / shard.file_name
            result = read_shard_result(part, shard) if part.exists() else None
            if result is not None:
                finished[shard.id] = result
        try:
            write_json(
                self.path / PLAN_NAME,
                {
                    "format": 1,
                    "schema": SCHEMA_VERSION,
                    "columns": [{"name": column.name, "type": str(column.type)} for column in columns],
                    "settings": settings.to_json(),
                    "images": sum(len(shard.paths) for shard in shards),
                    "shards": [shard.id for shard in shards],
                },
            )
        except OSError as error:
            raise writing_failed(self.path, error) from error
        return finished

    def _refuse_other_results(self, expected: set[str]) -> None:
        """Refuse a folder whose files would be read as rows of this run and are not."""
        strangers = sorted(
            child.name
            for child in self.path.iterdir()
            if not child.name.startswith(("_", ".")) and child.name not in expected
        )
        if not strangers:
            return
        if any(_PART_NAME.fullmatch(name) for name in strangers):
            raise UsageError(
                f"output {self.path} holds results of another run (other model, settings or images), "
                f"such as {strangers[0]}. Name another --output, or give --overwrite to delete them."
            )
        raise UsageError(
            f"output {self.path} holds files that are no results, such as {strangers[0]}; "
            "the folder is read as one table. Name an empty or a new folder."
        )

    def _parts(self) -> list[Path]:
        return [child for child in self.path.iterdir() if _PART_NAME.fullmatch(child.name)]

    def _remove_leftovers(self) -> None:
        """Delete half-written files of killed processes; the claim makes sure that nobody writes them."""
        for child in self.path.iterdir():
            if _LEFTOVER_NAME.fullmatch(child.name):
                if child.is_dir():
                    shutil.rmtree(child, ignore_errors=True)
                else:
                    child.unlink(missing_ok=True)


def chosen_before(output: Path, settings: ScoreSettings) -> str | None:
    """The runtime of the results that are there, if they are of this model and these settings."""
    try:
        earlier = read_json(output / PLAN_NAME)["settings"]
        runtime = str(earlier["runtime"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = {**settings.to_json(), "runtime": runtime} == earlier
    return runtime if same else None


def read_rows(output: Path) -> pa.Table:
    """All rows of a results folder, in the plan's order."""
    shards = read_json(output / PLAN_NAME)["shards"]
    # One file at a time; see first_failures. The metadata of the schema differs between parts.
    parts = [pq.ParquetFile(output / f"part-{shard_id}.parquet").read() for shard_id in shards]
    return pa.concat_tables([part.replace_schema_metadata(None) for part in parts])


def first_failures(output: Path, count: int) -> list[tuple[str, str]]:
    """Read up to ``count`` failed rows of a results folder, in the plan's order, as (path, reason)."""
    failures: list[tuple[str, str]] = []
    for shard_id in read_json(output / PLAN_NAME)["shards"]:
        # One file at a time: pyarrow.dataset would import pandas where it is installed, most of a second.
        rows = pq.ParquetFile(output / f"part-{shard_id}.parquet").read(["path", "error"]).to_pylist()
        failures += [(row["path"], row["error"]) for row in rows if row["error"] is not None]
        if len(failures) >= count:
            break
    return failures[:count]


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Hold an advisory lock on the folder itself; the system drops it when the process dies."""
    if sys.platform == "win32":  # no such lock on folders there
        yield
        return
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            # On the folder itself, so that no lock file is left behind, and without waiting: the other run
            # may take hours.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"output {path} is being written by another run. Wait for it, or name another --output."
            ) from None
        except OSError:
            pass  # a file system without locks; part files are whole there all the same
        yield
    finally:
        os.close(descriptor)
