"""What was found of all files, small enough for very many: 200 bytes a file here, thumbnails on disk."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self, overload

import numpy as np
import numpy.typing as npt

from imagedata.audit.facts import ENCODING, METADATA, THUMBNAIL_SIDE, FileFacts

_DIGEST = hashlib.sha256().digest_size
_THUMBNAIL = THUMBNAIL_SIDE**2
_ROWS_PER_BLOCK = 512

# Of the widths that facts are measured in, so that they come back as they were put in.
_ROW = np.dtype(
    [
        ("sha256", np.void, _DIGEST),
        ("is_read", np.bool_),
        ("n_bytes", np.int64),
        ("rule", np.uint16),
        ("width", np.int32),
        ("height", np.int32),
        ("mode", np.uint16),
        ("file_format", np.uint16),
        ("is_animated", np.bool_),
        ("orientation", np.int64),
        ("lacks_end", np.bool_),
        ("encoding", np.float32, len(ENCODING)),
        ("metadata", np.float32, len(METADATA)),
        ("excess_bits", np.float32),
        ("sharpness", np.float64),
        ("spread", np.float64),
        ("colour", np.float32, 3),
        ("corners", np.float32, 12),
    ]
)

Positions = npt.NDArray[np.int64]


class FactTable(Sequence[FileFacts]):
    """Facts of ``N`` files by position, as a sequence of :class:`FileFacts` and as columns.

    A row is 200 bytes in one array. Thumbnails, five times as much, lie in a file without a name that goes
    with the table. A position that nothing was put at is that of an empty :class:`FileFacts`.

    Args:
        count: N.
        folder: where the file of thumbnails is put; it should be on a disk, as some places for temporary
            files are in memory. None for the system's place.
    """

    def __init__(self, count: int, folder: Path | None = None) -> None:
        self._rows = np.zeros(count, dtype=_ROW)
        self._names: list[str] = [""]
        self._number_of_name: dict[str, int] = {"": 0}
        self._problems: dict[int, str] = {}
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # as long as the table
        self._file.truncate(count * _THUMBNAIL)

    @classmethod
    def of(cls, facts: Sequence[FileFacts]) -> FactTable:
        """A table of facts that are at hand; itself where they are one."""
        if isinstance(facts, FactTable):
            return facts
        table = cls(len(facts))
        for position, each in enumerate(facts):
            table.put(position, each)
        return table

    def put(self, position: int, facts: FileFacts) -> None:
        """Keep the facts of a file."""
        # All at once, in the order of the columns: field by field would take ten times as long.
        self._rows[position] = (
            bytes.fromhex(facts.sha256) or bytes(_DIGEST),
            bool(facts.sha256),
            facts.n_bytes,
            self._numbered(facts.rule),
            facts.width,
            facts.height,
            self._numbered(facts.mode),
            self._numbered(facts.file_format),
            facts.is_animated,
            facts.orientation,
            facts.lacks_end,
            facts.encoding or (0.0,) * len(ENCODING),
            facts.metadata or (0.0,) * len(METADATA),
            facts.excess_bits,
            facts.sharpness,
            facts.spread,
            facts.colour or (0.0,) * 3,
            facts.corners or (0.0,) * 12,
        )
        if facts.problem:
            self._problems[position] = facts.problem
        if facts.thumbnail:
            self._file.seek(position * _THUMBNAIL)
            self._file.write(facts.thumbnail)

    def _numbered(self, name: str) -> int:
        number = self._number_of_name.setdefault(name, len(self._names))
        if number == len(self._names):
            self._names.append(name)
        return number

    def close(self) -> None:
        """Give the thumbnails back to the disk; the columns stay."""
        self._file.close()

    def __enter__(self) -> Self:
        """The table itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the thumbnails back."""
        self.close()

    def __len__(self) -> int:
        """N."""
        return len(self._rows)

    @overload
    def __getitem__(self, position: int) -> FileFacts: ...

    @overload
    def __getitem__(self, position: slice) -> list[FileFacts]: ...

    def __getitem__(self, position: int | slice) -> FileFacts | list[FileFacts]:
        """Facts as they were put in."""
        if isinstance(position, slice):
            return [self[each] for each in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(position)
        position %= len(self)
        return next(self._block(position, position + 1))

    def __iter__(self) -> Iterator[FileFacts]:
        """All facts, some hundreds of them read at a time."""
        for start in range(0, len(self), _ROWS_PER_BLOCK):
            yield from self._block(start, min(start + _ROWS_PER_BLOCK, len(self)))

    def _block(self, start: int, stop: int) -> Iterator[FileFacts]:
        rows = self._rows[start:stop]
        thumbnails = self.thumbnails(range(start, stop))
        columns = [rows[name].tolist() for name in _ROW.names or ()]
        for position, row in enumerate(zip(*columns, strict=True), start):
            sha256, is_read, n_bytes, rule, width, height, mode, file_format, *others = row
            is_animated, orientation, lacks_end, encoding, metadata, excess_bits, *measured = others
            sharpness, spread, colour, corners = measured
            common = (
                sha256.hex() if is_read else "",
                n_bytes,
                self._names[rule],
                self._problems.get(position, ""),
            )
            if rule or not is_read:
                yield FileFacts(*common, file_format=self._names[file_format])
                continue
            yield FileFacts(
                *common,
                width=width,
                height=height,
                mode=self._names[mode],
                file_format=self._names[file_format],
                is_animated=is_animated,
                orientation=orientation,
                lacks_end=lacks_end,
                encoding=tuple(encoding),
                metadata=tuple(metadata),
                excess_bits=excess_bits,
                sharpness=sharpness,
                spread=spread,
                colour=tuple(colour),
                corners=tuple(corners),
                thumbnail=thumbnails[position - start].tobytes(),
            )

    def sha256(self, position: int) -> str:
        """Digest of a file; empty where it could not be read."""
        row = self._rows[position]
        return row["sha256"].tobytes().hex() if row["is_read"] else ""

    def problem(self, position: int) -> str:
        """Why a file is refused; empty where it is not."""
        return self._problems.get(position, "")

    def column(self, name: str) -> npt.NDArray[np.generic]:
        """``[N]`` or ``[N, d]`` numbers by their name in :class:`FileFacts`; not to be changed."""
        return self._rows[name]

    def names(self, column: str, positions: Iterable[int]) -> list[str]:
        """Texts of the column ``rule``, ``mode`` or ``file_format``."""
        return [self._names[self._rows[column][position]] for position in positions]

    @cached_property
    def is_usable(self) -> npt.NDArray[np.bool_]:
        """``[N]`` whether training and scoring would read a file."""
        return np.asarray(self._rows["rule"] == 0)

    @cached_property
    def first_of_content(self) -> Positions:
        """``[N]`` first position with the same bytes; of a file that cannot be used, its own."""
        first = np.arange(len(self), dtype=np.int64)
        usable = np.flatnonzero(self.is_usable)
        words = (
            np.ascontiguousarray(self._rows["sha256"][usable])
            .view(np.uint64)
            .reshape(len(usable), _DIGEST // 8)
        )
        order = np.lexsort(words.T)  # stable: within equal ones the earlier position comes first
        is_new = np.ones(len(order), dtype=np.bool_)
        is_new[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
        leader = np.maximum.accumulate(np.where(is_new, np.arange(len(order)), 0))
        first[usable[order]] = usable[order[leader]]
        return first

    def thumbnails(self, positions: Sequence[int] | Positions) -> npt.NDArray[np.uint8]:
        """``[P, 32, 32]`` grey thumbnails of files, read from disk."""
        found = np.zeros((len(positions), THUMBNAIL_SIDE, THUMBNAIL_SIDE), dtype=np.uint8)
        wanted = np.asarray(positions, dtype=np.int64)
        if not len(wanted):
            return found
        # A run of neighbours is read at once.
        starts = np.flatnonzero(np.diff(wanted, prepend=wanted[:1] - 2) != 1)
        for start, stop in zip(starts, [*starts[1:], len(wanted)], strict=True):
            self._file.seek(int(wanted[start]) * _THUMBNAIL)
            self._file.readinto(found[start:stop].data.cast("B"))
        return found


class StoredThumbnails:
    """Thumbnails of some files of a table, indexed as an array ``[P, 32, 32]`` would be, read when asked for.

    Args:
        table: that they belong to.
        positions: ``[P]`` of the files.
    """

    def __init__(self, table: FactTable, positions: Positions) -> None:
        self._table, self._positions = table, positions

    def __len__(self) -> int:
        """P."""
        return len(self._positions)

    def __getitem__(self, places: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """``[p, 32, 32]``."""
        return self._table.thumbnails(self._positions[places])
