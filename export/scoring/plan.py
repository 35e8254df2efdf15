"""From images to shards: which of them become which part file.

A shard's id is a digest of everything that decides its scores, so that a rerun recognises what is
finished, and results of another model, setting or set of images are never taken for its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from contracts.files import digest_of
from imagedata.containers.reader import ContainedImage

DEFAULT_SHARD_SIZE = 256
"""Most images per part file. Work lost to a crash is at most one shard per process."""

SCHEMA_VERSION = 3
"""Version of the part files' columns; 1 had no ``p_normal``, 2 no ``p_minority`` and no ``triage``."""

_SMALLEST_SHARD = 32
_SHARDS_OF_A_SIZE = 8

Override = float | tuple[float, ...] | None
"""Prior or threshold in place of the file's own: one number for two classes, one per class for more."""

Levels = Mapping[str, float] | None
"""Error rates of triage in place of the file's own, by the names in :data:`contracts.triage.LEVELS`."""


ESTIMATED: Literal["estimated"] = "estimated"
"""In place of a prior: what :mod:`export.scoring.watch.share` finds in the scored images themselves."""


@dataclass(frozen=True)
class Shard:
    """A unit of work: some images that become one part file.

    Attributes:
        id: 16 hex characters, a digest of model, settings and paths.
        paths: the images, in the order of their rows; ``archive::name`` for those within a larger file.
        packed: position → place, of the images within larger files.
    """

    id: str
    paths: tuple[str, ...]
    packed: Mapping[int, ContainedImage] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """Name of the part file within the output folder."""
        return f"part-{self.id}.parquet"


@dataclass(frozen=True)
class ScoreSettings:
    """What decides the scores beside the pixels.

    Attributes:
        model_sha256: hex digest of the model file.
        decode: the model's decode settings as JSON facts.
        prior: override of the file's prior; None for the file's own; :data:`ESTIMATED` for the share that is
            estimated once all images are scored.
        threshold: override of the file's threshold; None for the file's own.
        runtime: what computes the graph; runtimes agree within a limit, not to the bit.
        levels: overrides of the file's error rates of triage; None for the file's own.
    """

    model_sha256: str
    decode: dict[str, Any]
    prior: Override | Literal["estimated"] = None
    threshold: Override = None
    runtime: str = "onnxruntime"
    levels: Levels = None

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON facts."""
        return {
            "model_sha256": self.model_sha256,
            "decode": self.decode,
            "prior": self.prior,
            "threshold": self.threshold,
            "runtime": self.runtime,
            **({"triage": dict(self.levels)} if self.levels else {}),
            # Part files of an earlier version lack a column, so they are not taken for finished ones.
            "schema": SCHEMA_VERSION,
        }


def make_shards(
    paths: Sequence[str],
    settings: ScoreSettings,
    shard_size: int,
    packed: Mapping[str, ContainedImage] | None = None,
) -> list[Shard]:
    """Cut the images into shards of ``shard_size`` and, towards the end, of smaller ones.

    All processes wait for the one that works on the last shard, and a few hundred images in two shards would
    keep only two processors busy, however many there are. The number of processors is not part of the plan,
    which would otherwise differ from machine to machine.

    Args:
        paths: images, in order.
        settings: what decides the scores.
        shard_size: most images per shard, at least 1.
        packed: path → place, of the images within larger files.
    """
    settings_digest = digest_of(settings.to_json())
    packed = packed or {}
    shards = []
    start = 0
    for length in shard_lengths(len(paths), shard_size):
        members = tuple(paths[start : start + length])
        start += length
        within = {row: packed[path] for row, path in enumerate(members) if path in packed} if packed else {}
        # NUL cannot occur in a file name, so that different lists cannot give equal bytes.
        named = b"\0".join(_identity(path, within.get(row)) for row, path in enumerate(members))
        digest = hashlib.sha256(settings_digest.encode() + b"\0" + named).hexdigest()[:16]
        shards.append(Shard(digest, members, within))
    return shards


def shard_lengths(n_images: int, shard_size: int) -> list[int]:
    """Images of each shard, in order.

    Seen from the end: eight shards of an eighth of the size, eight of a quarter, eight of a half, then whole
    ones; but none smaller than 32 images, since writing a part file also takes time.
    """
    lengths: list[int] = []
    # Planned from the end, returned reversed: the smallest shards come last, when processes run out of work.
    for share in (8, 4, 2):
        length = shard_size // share
        if length >= _SMALLEST_SHARD:
            count = min(_SHARDS_OF_A_SIZE, n_images // length)
            lengths += [length] * count
            n_images -= count * length
    whole, rest = divmod(n_images, shard_size)
    return [*([shard_size] * whole), *([rest] if rest else []), *reversed(lengths)]


def _identity(path: str, packed: ContainedImage | None) -> bytes:
    """What tells an image from others: its absolute name, and its place within a larger file.

    File names are bytes, not text: a digest of the text would fail on names that are not UTF-8. Absolute, so
    that "photos" in one folder is not taken for "photos" in another. The place, because another archive
    under the same name has its images elsewhere.
    """
    if packed is None:
        return os.fsencode(absolute(path))
    around = packed.container.path
    inner = path.removeprefix(around)
    checksum = f"\0{packed.entry.crc}" if packed.entry else ""
    place = f"\0{packed.offset}\0{packed.size}{checksum}"
    return os.fsencode(f"{absolute(around)}{inner}") + place.encode()


def absolute(path: str) -> str:
    """The absolute name, links not followed: two names of one file are two rows, as the user named two."""
    return os.path.abspath(path)  # noqa: PTH100


def printable_path(path: str) -> str:
    """A path as text that can be printed and stored: bytes that are not UTF-8 become escapes."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
