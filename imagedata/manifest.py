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
from contracts.regime import Regime
from imagedata.groups import group_of_path
from imagedata.inspection import Inspection
from imagedata.layouts.listed_image import ListedImage, Split
from imagedata.manifest_row import ManifestRow, RowSplit
from imagedata.near_duplicates import PictureOfFile
from imagedata.sampling import draw_held_out, keep_a_share, make_imbalance, move_anomalies
from imagedata.spec import DataSpec

LEAST_MAJORITY = 5
"""Fewest usable training images of the majority that are taken."""

_OPTIONAL = ("source", "subtype", "mask", "listed_label")
"""Columns of :class:`ManifestRow` that may be None throughout."""

ADVISED_MAJORITY = 20
"""From so many normal images on, a false-alarm level of 5 % can be kept."""


@dataclass(frozen=True)
class Manifest:
    """All rows of a data set, sorted by split and path.

    Attributes:
        dataset: name of the spec.
        root: folder the paths are relative to.
        class_names: minority last.
        rows: every listed image, the unusable ones included, and every augmented copy.
        unlabelled: the spec says that labels are unknown, and every row carries the majority's.
    """

    dataset: str
    root: Path
    class_names: tuple[str, ...]
    rows: tuple[ManifestRow, ...]
    unlabelled: bool = False

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
    def regime(self) -> Regime:
        """What is known about the labels of the usable training rows."""
        if any(row.label == self.class_names[-1] for row in self.usable("train")):
            return "labelled"
        return "unlabelled" if self.unlabelled else "normal_only"

    @property
    def digest(self) -> str:
        """Digest over everything that training depends on; independent of where the root lies."""
        facts = [
            [r.path, r.label, r.group, r.split, r.sha256, r.status, *([r.source] if r.source else [])]
            for r in self.rows
        ]
        # Named only where there are none, so that sets with labels keep the digest that they had.
        unlabelled = ["unlabelled"] if self.unlabelled else []
        return digest_of([self.dataset, list(self.class_names), facts, *unlabelled])

    def write(self, path: Path) -> None:
        """Write as parquet, atomically; data set, root and classes go into the schema's metadata."""
        columns = {name: [getattr(row, name) for row in self.rows] for name in ManifestRow.__annotations__}
        # Without a type, a column of nothing but None would have that of nothing.
        optional = {name: pa.array(columns.pop(name), pa.string()) for name in _OPTIONAL}
        table = pa.table({**columns, **optional}).replace_schema_metadata(
            {
                "dataset": self.dataset,
                "root": str(self.root),
                "class_names": json.dumps(self.class_names),
                "digest": self.digest,
                "unlabelled": json.dumps(self.unlabelled),
            }
        )
        with atomic_writer(path) as handle:
            pq.write_table(table, handle, compression="zstd")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read what :meth:`write` wrote; older files lack columns that may be None throughout."""
        table = pq.read_table(path)
        meta = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        rows = tuple(ManifestRow(**row) for row in table.to_pylist())
        return cls(
            meta["dataset"],
            Path(meta["root"]),
            tuple(json.loads(meta["class_names"])),
            rows,
            json.loads(meta.get("unlabelled", "false")),
        )


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
    the set brings none and the minority is large enough; minority rows are dropped to the spec's imbalance.
    Every draw is by a seeded hash of the file's bytes, so it does not depend on names, order or platform.
    Draws go by the labels that the data set gives: a label that a person corrected moves no image between
    training and test, so that figures before and after stand on the same images.

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
        DataError: the majority has fewer than 5 usable training images, a class of several has none, a test
            set lacks a class, too few are there to hold out, or more minority rows are wanted than there are.
    """
    in_order = sorted(listed, key=lambda image: (image.split, image.path, image.label))
    pictures = near or {}
    rows = [_first_row(spec, image, findings[image.path], pictures) for image in in_order]
    # The order of these steps matters: images that change sides do so before leaks between the sides are
    # looked for, and the imbalance is made last, from what is really left.
    rows = move_anomalies(spec, rows, seed)
    rows = _exclude_leaks(rows, pictures)
    rows = _labels_exchanged(rows)
    rows = keep_a_share(spec, rows, seed)
    has_own_test = any(row.split == "test" for row in rows)
    if not has_own_test:
        rows = draw_held_out(spec, rows, seed)
    rows = _exclude_shared_groups(rows)
    rows = _labels_exchanged(make_imbalance(spec, rows, seed))
    kept = tuple(sorted(rows, key=lambda r: (r.split, r.path)))
    manifest = Manifest(spec.name, root, spec.class_names, kept, spec.unlabelled)
    _require_enough(spec, manifest, has_own_test=has_own_test)
    return manifest


def _labels_exchanged(rows: list[ManifestRow]) -> list[ManifestRow]:
    """The rows with the labels of the data set in place of corrected ones; done twice, as they were."""
    return [
        row if row.listed_label is None else replace(row, label=row.listed_label, listed_label=row.label)
        for row in rows
    ]


def _require_enough(spec: DataSpec, manifest: Manifest, *, has_own_test: bool) -> None:
    """Refuse a set with too few images to train on, or with a test set that cannot judge.

    The minority of two classes may have none. With one in training, a test set needs one as well.

    Raises:
        DataError: says which class has how many, and how many would do.
    """
    train, test = manifest.counts("train"), manifest.counts("test")
    minority = manifest.class_names[-1]
    for name, count in train.items():
        drawn = not has_own_test and test[name] and spec.train_counts.get(name) != 0
        if count == 0 and (name != minority or len(train) > 2 or drawn):
            raise DataError(_nothing_left(manifest, "train", name, has_own_test=has_own_test))
    majority = sum(train.values()) - train[minority]
    if majority < LEAST_MAJORITY:
        names = " and ".join(name for name in train if name != minority)
        images = "training image" if majority == 1 else "training images"
        raise DataError(
            f"{manifest.dataset}: {majority} usable {images} of {names}; {LEAST_MAJORITY} are the least, one "
            f"for each of {LEAST_MAJORITY} folds. Add {LEAST_MAJORITY - majority} or more. "
            f"{ADVISED_MAJORITY} and more are advised: no p-value of an image can be below 1 / (n + 1), so "
            f"{LEAST_MAJORITY} normal images allow no less than {1 / (LEAST_MAJORITY + 1):.2f}."
        )
    for name, count in test.items():
        if count == 0 and any(test.values()) and (name != minority or manifest.regime == "labelled"):
            raise DataError(_nothing_left(manifest, "test", name, has_own_test=has_own_test))


def _nothing_left(manifest: Manifest, split: Split, name: str, *, has_own_test: bool) -> str:
    mine = [row for row in manifest.rows if row.label == name and row.status in {"broken", "excluded"}]
    drawn = [row for row in manifest.usable("test") if row.label == name]
    if split == "train" and not has_own_test and drawn:
        count = "one usable image" if len(drawn) == 1 else f"{len(drawn)} usable images"
        one_group = "" if len(drawn) == 1 else f", all of one group ({drawn[0].group})"
        return (
            f"{manifest.dataset}: class {name} has {count}{one_group}, and the draw of the test set took "
            f"{'it' if len(drawn) == 1 else 'them'}, so none is left to train on. Leave test_share and "
            "test_per_class out: all then train, and figures are cross-validated. Or add images of it."
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
        label=spec.class_names[0] if spec.unlabelled else image.label,
        group=group,
        split=image.split,
        sha256=finding.sha256,
        width=finding.width,
        height=finding.height,
        mode=finding.mode,
        status="broken" if finding.problem else "ok",
        reason=finding.problem,
        # Either would tell what nobody is to know.
        subtype=None if spec.unlabelled else image.subtype,
        mask=None if spec.unlabelled else image.mask,
        listed_label=None if spec.unlabelled else image.listed_label,
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
