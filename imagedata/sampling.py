"""Draws of rows by a seeded hash of their bytes: equal on every machine, whatever the files are called."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from contracts.errors import DataError

if TYPE_CHECKING:
    from imagedata.manifest_row import ManifestRow
    from imagedata.spec import DataSpec


def seeded_rank(seed: int, purpose: str, key: str) -> str:
    """A key's place in a random order that depends on the seed and the purpose only."""
    return hashlib.sha256(f"{seed}|{purpose}|{key}".encode()).hexdigest()


def keep_a_share(spec: DataSpec, rows: Sequence[ManifestRow], seed: int) -> list[ManifestRow]:
    """Drop usable rows until ``keep_share`` of each class and split is left; at least one row of each."""
    if spec.keep_share is None:
        return list(rows)
    kept: set[tuple[str, str]] = set()
    for split in ("train", "test"):
        for name in spec.class_names:
            mine = [r for r in rows if r.status == "ok" and r.split == split and r.label == name]
            # By a hash of the bytes: a smaller share is always a part of a larger one.
            mine.sort(key=lambda row: seeded_rank(seed, "keep", row.sha256))
            kept.update((row.split, row.path) for row in mine[: max(1, round(len(mine) * spec.keep_share))])
    return [
        replace(row, status="dropped", reason=f"{spec.keep_share:.0%} of each class kept")
        if row.status == "ok" and (row.split, row.path) not in kept
        else row
        for row in rows
    ]


def move_anomalies(spec: DataSpec, rows: Sequence[ManifestRow], seed: int) -> list[ManifestRow]:
    """Give training its anomalies, where a data set keeps all of them for testing.

    ``moved_share`` of each kind of anomaly, rounded, or ``moved_count`` of all, dealt out to the kinds by
    their sizes (largest remainders). Whole groups are moved, the normal images of a group with its
    anomalies; a group that would overshoot its kind's number stays.

    Raises:
        DataError: all or none of the anomalies would be moved.
    """
    held_out = [row for row in rows if row.status == "ok" and row.split == "test"]
    anomalies = Counter(row.subtype or "" for row in held_out if row.label == spec.minority)
    moves = spec.layout.anomalies_to_move(anomalies)
    if moves is None:
        return list(rows)
    wanted = moves.wanted
    total, available = sum(wanted.values()), sum(anomalies.values())
    if not 0 < total < available:
        raise DataError(
            f"{spec.name}: {moves.rule} would move {total} of {available} anomalies into training, and "
            f"both sides need some. Use -o layout.moved_share=0.5 or "
            f"-o layout.moved_count={max(1, available // 2)}."
        )
    counts_of_group: dict[str, Counter[str]] = {}
    for row in held_out:
        counts = counts_of_group.setdefault(row.group, Counter())
        if row.label == spec.minority:
            counts[row.subtype or ""] += 1
    moved: set[str] = set()
    so_far: Counter[str] = Counter()
    for group in sorted(counts_of_group, key=lambda name: seeded_rank(seed, "moved", name)):
        counts = counts_of_group[group]
        if counts and all(so_far[kind] + count <= wanted[kind] for kind, count in counts.items()):
            moved.add(group)
            so_far.update(counts)
    return [
        replace(row, split="train")
        if row.status == "ok" and row.split == "test" and row.group in moved
        else row
        for row in rows
    ]
