"""The manifest: one row per image, and what became of it. Inputs are never modified."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import DataError
from contracts.files import atomic_writer, digest_of
from imagedata.groups import group_of_path
from imagedata.inspection import Inspection
from imagedata.layouts.listed_image import ListedImage, Split
from imagedata.manifest_row import ManifestRow, RowSplit
from imagedata.near_duplicates import PictureOfFile
from imagedata.sampling import keep_a_share, move_anomalies, seeded_rank
from imagedata.spec import DataSpec, parse_ratio


@dataclass(frozen=True)
class Manifest:
    """All rows of a data set, sorted by split and path.

    Attributes:
        dataset: name of the spec.
        root: folder the paths are relative to.
        class_names: minority last.
        rows: every listed image, the unusable ones included, and every augmented copy.
    """

    dataset: str
    root: Path
    class_names: tuple[str, ...]
    rows: tuple[ManifestRow, ...]

    def usable(self, split: RowSplit) -> list[ManifestRow]:
        """Rows of a split that models may see (train, augmented) or are measured on (test)."""
        return [row for row in self.rows if row.split == split and row.status == "ok"]

    def counts(self, split: Split) -> dict[str, int]:
        """Usable rows per class."""
        counted = Counter(row.label for row in self.usable(split))
        return {name: counted[name] for name in self.class_names}

    def status_counts(self) -> dict[str, int]:
        """Number of listed images per status, all splits together; augmented copies are none of them."""
        return dict(Counter(row.status for row in self.rows if row.split != "augmented"))

    @property
    def digest(self) -> str:
        """Digest over everything that training depends on; independent of where the root lies."""
        facts = [
            [r.path, r.label, r.group, r.split, r.sha256, r.status, *([r.source] if r.source else [])]
            for r in self.rows
        ]
        return digest_of([self.dataset, list(self.class_names), facts])

    def write(self, path: Path) -> None:
        """Write as parquet, atomically; data set, root and classes go into the schema's metadata."""
        columns = {name: [getattr(row, name) for row in self.rows] for name in ManifestRow.__annotations__}
        # Without a type, a column of nothing but None would have that of nothing.
        optional = {name: pa.array(columns.pop(name), pa.string()) for name in ("source", "subtype", "mask")}
        table = pa.table({**columns, **optional}).replace_schema_metadata(
            {
                "dataset": self.dataset,
                "root": str(self.root),
                "class_names": json.dumps(self.class_names),
                "digest": self.digest,
            }
        )
        with atomic_writer(path) as handle:
            pq.write_table(table, handle, compression="zstd")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read what :meth:`write` wrote; older files have no column of sources, and no copies."""
        table = pq.read_table(path)
        meta = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        rows = tuple(ManifestRow(**row) for row in table.to_pylist())
        return cls(meta["dataset"], Path(meta["root"]), tuple(json.loads(meta["class_names"])), rows)


def build_manifest(
    spec: DataSpec,
    root: Path,
    listed: list[ListedImage],
    findings: Mapping[str, Inspection],
    seed: int,
    near: PictureOfFile | None = None,
) -> Manifest:
    """Decide what becomes of every image.

    In this order: broken files are marked; a tree of anomalies that keeps all of them for testing gives
    some to training; files that carry two labels, repeat another training file, or lie in the held-out
    split as well leave training; a share is kept where the spec names one; test rows are drawn where
    the set brings none; minority rows are dropped to the spec's imbalance. Every draw is by a seeded hash of
    the file's bytes, so it does not depend on names, order or platform.

    Args:
        spec: the data set.
        root: folder the paths are relative to.
        listed: files and labels.
        findings: path → inspection.
        seed: of the draw of the test set and the dropping.
        near: SHA-256 → picture of files that have near copies. These leave training like equal files where
            labels contradict, the picture is held out, or two groups hold it; otherwise they stay and,
            without a group rule, form a group.

    Raises:
        DataError: a class has no usable training or test image left, too few to hold out, or more
            minority rows are wanted than there are.
    """
    in_order = sorted(listed, key=lambda image: (image.split, image.path, image.label))
    pictures = near or {}
    rows = [_first_row(spec, image, findings[image.path], pictures) for image in in_order]
    # The order of these steps matters: images that change sides do so before leaks between the sides are
    # looked for, and the imbalance is made last, from what is really left.
    rows = move_anomalies(spec, rows, seed)
    rows = _exclude_leaks(rows, pictures)
    rows = keep_a_share(spec, rows, seed)
    has_own_test = any(row.split == "test" for row in rows)
    if not has_own_test:
        rows = _draw_held_out(spec, rows, seed)
    rows = _exclude_shared_groups(rows)
    rows = _make_imbalance(spec, rows, seed)
    manifest = Manifest(
        spec.name, root, spec.class_names, tuple(sorted(rows, key=lambda r: (r.split, r.path)))
    )
    for split in ("train", "test"):
        for name, count in manifest.counts(split).items():
            if count == 0:
                raise DataError(_nothing_left(manifest, split, name, has_own_test=has_own_test))
    return manifest


def _nothing_left(manifest: Manifest, split: Split, name: str, *, has_own_test: bool) -> str:
    mine = [row for row in manifest.rows if row.label == name and row.status in {"broken", "excluded"}]
    drawn = [row for row in manifest.usable("test") if row.label == name]
    if split == "train" and not has_own_test and drawn:
        count = "one usable image" if len(drawn) == 1 else f"{len(drawn)} usable images"
        one_group = "" if len(drawn) == 1 else f", all of one group ({drawn[0].group})"
        return (
            f"{manifest.dataset}: class {name} has {count}{one_group}, and the draw of the test set took "
            f"{'it' if len(drawn) == 1 else 'them'}, so none is left to train on. Add images of it: the "
            "test set takes at least one, and each fold of training needs one of its own (-o folds=2 needs "
            "the fewest)."
        )
    where = "training" if split == "train" else "test"
    why = (
        f" {len(mine)} of it stay out; the first: {mine[0].path}: {mine[0].reason.rstrip('.')}."
        if mine
        else ""
    )
    return f"{manifest.dataset}: class {name} has no usable {where} image.{why} Add images of it."


def _first_row(
    spec: DataSpec, image: ListedImage, finding: Inspection, pictures: PictureOfFile
) -> ManifestRow:
    # Equal bytes are one picture: without a group rule they form a group, and can never part.
    group = image.group or pictures.get(finding.sha256, finding.sha256) or image.path
    if spec.group is not None:
        group = group_of_path(spec.group, image.path)
        if not group:
            what = "no group" if isinstance(spec.group, str) else "no such folder"
            raise DataError(
                f"{spec.name}: the group rule '{spec.group}' finds {what} in '{image.path}'. "
                "Give a regular expression with one (group) that matches every path, or the number of a "
                "folder, with -o group=..."
            )
    return ManifestRow(
        path=image.path,
        label=image.label,
        group=group,
        split=image.split,
        sha256=finding.sha256,
        width=finding.width,
        height=finding.height,
        mode=finding.mode,
        status="broken" if finding.problem else "ok",
        reason=finding.problem,
        subtype=image.subtype,
        mask=image.mask,
    )


def _exclude_leaks(rows: list[ManifestRow], pictures: PictureOfFile) -> list[ManifestRow]:
    """Take training rows out that repeat a picture; test rows stay as their owner set them."""
    picture_of = {row.sha256: pictures.get(row.sha256, row.sha256) for row in rows}
    has_near = {picture for sha, picture in pictures.items() if sha in picture_of}
    held_out: dict[str, ManifestRow] = {}
    label_of: dict[str, str] = {}
    labels_of: dict[str, set[str]] = {}  # of pictures with more than one, which are few
    for row in rows:
        if row.status == "ok" and row.split == "train":
            picture = picture_of[row.sha256]
            first_label = label_of.setdefault(picture, row.label)
            if row.label != first_label:
                labels_of.setdefault(picture, {first_label}).add(row.label)
        elif row.status == "ok" and row.split == "test":
            # By its own bytes a test file is named before one that is only like it.
            for key in (row.sha256, picture_of[row.sha256]):
                held_out[key] = row
    first_with: dict[str, ManifestRow] = {}
    result = []
    for row in rows:
        reason = ""
        if row.status == "ok" and row.split == "train":
            picture = picture_of[row.sha256]
            # The exact copy first, so that the reason names it rather than a near one.
            twin = held_out.get(row.sha256) or held_out.get(picture)
            first = first_with.get(row.sha256) or first_with.get(picture)
            if picture in labels_of:
                near = "nearly " if picture in has_near else ""
                reason = f"{near}the same file is labelled {' and '.join(sorted(labels_of[picture]))}"
            elif twin is not None:
                reason = f"{_same(row, twin)} is held out as {twin.path}"
            elif first is not None and (first.sha256 == row.sha256 or first.group != row.group):
                reason = f"{_same(row, first)} as {first.path}"
            else:
                first_with.setdefault(picture, row)
                first_with[row.sha256] = row
        result.append(replace(row, status="excluded", reason=reason) if reason else row)
    return result


def _same(row: ManifestRow, other: ManifestRow) -> str:
    return "the same file" if row.sha256 == other.sha256 else "nearly the same picture"


def _exclude_shared_groups(rows: list[ManifestRow]) -> list[ManifestRow]:
    """Take training rows out whose group (patient, lot) also lies in the test set."""
    held_out = {row.group for row in rows if row.split == "test" and row.status == "ok"}
    return [
        replace(row, status="excluded", reason=f"group {row.group} is held out")
        if row.status == "ok" and row.split == "train" and row.group in held_out
        else row
        for row in rows
    ]


def _draw_held_out(spec: DataSpec, rows: list[ManifestRow], seed: int) -> list[ManifestRow]:
    """Hold out whole groups until every class has its share."""
    usable = [row for row in rows if row.status == "ok"]
    available = Counter(row.label for row in usable)
    wanted: dict[str, int] = {}
    for name in spec.class_names:
        if spec.test_per_class is not None:
            wanted[name] = spec.test_per_class
            if available[name] <= spec.test_per_class:
                raise DataError(
                    f"{spec.name}: class {name} has {available[name]} usable images, and test_per_class="
                    f"{spec.test_per_class} would leave none to train on. "
                    f"Use -o test_per_class={max(1, available[name] // 2)} or less."
                )
        else:
            wanted[name] = max(1, round(available[name] * spec.test_fraction))
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


def _make_imbalance(spec: DataSpec, rows: list[ManifestRow], seed: int) -> list[ManifestRow]:
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
