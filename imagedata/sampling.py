"""Draws of rows by a seeded hash of their bytes: equal on every machine, whatever the files are called."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from contracts.errors import DataError
from imagedata.spec import DataSpec, parse_ratio

if TYPE_CHECKING:
    from imagedata.manifest_row import ManifestRow

INDEPENDENT_FOR_A_TEST = 100
"""From so many independent images of the minority on, a test set is held out without being asked for."""

_SHARE_HELD_OUT = 0.2


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
    anomalies; a group that would overshoot its kind's number stays. Where none is to be moved, training has
    normal images only.

    Raises:
        DataError: all of the anomalies would be moved.
    """
    held_out = [row for row in rows if row.status == "ok" and row.split == "test"]
    anomalies = Counter(row.subtype or "" for row in held_out if row.label == spec.minority)
    moves = spec.layout.anomalies_to_move(anomalies)
    if moves is None:
        return list(rows)
    wanted = moves.wanted
    total, available = sum(wanted.values()), sum(anomalies.values())
    if not total:
        return list(rows)
    if total >= available:
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


def draw_held_out(spec: DataSpec, rows: Sequence[ManifestRow], seed: int) -> list[ManifestRow]:
    """Hold out whole groups until every class has its share; nothing where the minority is too small.

    Raises:
        DataError: ``test_per_class`` would leave a class none to train on.
    """
    usable = [row for row in rows if row.status == "ok"]
    wanted = _wanted_for_test(spec, usable)
    if not any(wanted.values()):
        return list(rows)
    label_of_group: dict[str, str] = {}
    counts_of_group: dict[str, Counter[str]] = {}  # of groups of more than one, most often few
    for row in usable:
        if row.group in counts_of_group:
            counts_of_group[row.group][row.label] += 1
        elif row.group in label_of_group:
            counts_of_group[row.group] = Counter([label_of_group[row.group], row.label])
        else:
            label_of_group[row.group] = row.label
    taken: set[str] = set()
    held: Counter[str] = Counter()
    for group in sorted(label_of_group, key=lambda g: seeded_rank(seed, "held-out", g)):
        # Counters are kept only for groups of several images, to save memory in sets of many single images.
        counts = counts_of_group.get(group) or Counter([label_of_group[group]])
        # A group enters while one of its classes still lacks rows and none overshoots.
        if any(held[c] < wanted[c] for c in counts) and all(
            held[c] + n <= wanted[c] for c, n in counts.items()
        ):
            taken.add(group)
            held.update(counts)
    return [replace(row, split="test") if row.group in taken and row.status == "ok" else row for row in rows]


def _wanted_for_test(spec: DataSpec, usable: Sequence[ManifestRow]) -> dict[str, int]:
    """Class → number of rows to hold out."""
    available = Counter(row.label for row in usable)
    if spec.test_per_class is not None:
        for name in spec.class_names:
            if name == spec.minority and not available[name]:
                continue  # there is none to hold out, and none that training would miss
            if available[name] <= spec.test_per_class:
                raise DataError(
                    f"{spec.name}: class {name} has {available[name]} usable images, and test_per_class="
                    f"{spec.test_per_class} would leave none to train on. "
                    f"Use -o test_per_class={max(1, available[name] // 2)} or less."
                )
        return {name: min(spec.test_per_class, available[name]) for name in spec.class_names}
    share = spec.test_share
    if share is None:
        independent = {row.group for row in usable if row.label == spec.minority}
        if len(independent) < INDEPENDENT_FOR_A_TEST:
            return {}
        share = _SHARE_HELD_OUT
    return {name: max(1, round(n * share)) for name, n in available.items()}


def make_imbalance(spec: DataSpec, rows: Sequence[ManifestRow], seed: int) -> list[ManifestRow]:
    """Drop training rows by ``train_counts`` first, then minority rows to the ``imbalance`` ratio."""
    keep: dict[str, int] = dict(spec.train_counts)
    available = Counter(row.label for row in rows if row.split == "train" and row.status == "ok")
    if spec.imbalance is not None and spec.minority not in keep:
        majority = sum(min(n, keep.get(c, n)) for c, n in available.items() if c != spec.minority)
        keep[spec.minority] = max(1, round(majority / parse_ratio(spec.imbalance)))
        if keep[spec.minority] > available[spec.minority] > 0:
            raise DataError(
                f"{spec.name}: imbalance {spec.imbalance} of {majority} majority rows needs "
                f"{keep[spec.minority]} of {spec.minority}, and {available[spec.minority]} are there for "
                "training. Use a rarer ratio, or -o imbalance=null to train on all of them."
            )
    dropped: set[str] = set()
    for name, limit in keep.items():
        mine = [r for r in rows if r.split == "train" and r.status == "ok" and r.label == name]
        mine.sort(key=lambda r: seeded_rank(seed, "imbalance", r.sha256))
        # A prefix of a seeded order is kept, so that a stronger imbalance keeps a subset of a weaker one.
        dropped.update(row.path for row in mine[limit:])
    return [
        replace(row, status="dropped", reason=f"to make the imbalance: {keep[row.label]} of {row.label} kept")
        if row.path in dropped and row.split == "train" and row.status == "ok"
        else row
        for row in rows
    ]
