"""The part every training command begins with: manifest, folds, and the rows behind them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError
from contracts.files import digest_of, read_json, write_json
from contracts.rows import LabelArray
from imagedata.inspection import InspectionJournal
from imagedata.listing import find_root, list_images
from imagedata.manifest import Manifest, ManifestRow, build_manifest
from workflow.config import RunConfig
from workflow.console import progress_bar


@dataclass(frozen=True)
class PreparedData:
    """Rows that a run works on.

    Attributes:
        manifest: every listed image.
        train: usable training rows, in manifest order.
        test: usable held-out rows.
        fold_of_row: ``[N]`` fold that holds each training row out.
    """

    manifest: Manifest
    train: list[ManifestRow]
    test: list[ManifestRow]
    fold_of_row: npt.NDArray[np.int64]

    @property
    def folds_digest(self) -> str:
        """Digest of the assignment of rows to folds."""
        return digest_of([[row.path for row in self.train], self.fold_of_row.tolist()])

    def labels(self, rows: list[ManifestRow]) -> LabelArray:
        """``[N]`` class index of rows, minority last."""
        names = self.manifest.class_names
        return np.array([names.index(row.label) for row in rows], dtype=np.int64)

    def file_of(self, row: ManifestRow) -> Path:
        """Where a row's image lies."""
        return self.manifest.root / row.path


def prepare_data(config: RunConfig) -> PreparedData:
    """List, inspect, split and fold; the same call always gives the same rows.

    Raises:
        DataError: the data set is missing, a class is empty, or folds cannot be made.
    """
    root = find_root(config.spec, config.data_dir)
    listed = list_images(config.spec, root)
    journal = InspectionJournal(config.options.runs / "inspections" / f"{config.spec.name}.jsonl")
    with progress_bar(f"looking at {len(listed)} images", len(listed)) as bar:
        findings = journal.inspect(root, (image.path for image in listed), config.decode, bar.advance)
    manifest = build_manifest(config.spec, root, listed, findings, config.seed)
    return with_folds(config, manifest)


def with_folds(config: RunConfig, manifest: Manifest) -> PreparedData:
    """Assign folds to the training rows of a manifest.

    Raises:
        DataError: a class has fewer images or groups than folds.
    """
    from imagedata.folds import assign_folds

    train, test = manifest.usable("train"), manifest.usable("test")
    names = manifest.class_names
    fold_of_row = assign_folds(
        labels=np.array([names.index(row.label) for row in train], dtype=np.int64),
        groups=np.array([row.group for row in train]),
        class_names=names,
        n_folds=config.recipe.folds,
        seed=config.seed,
        dataset=manifest.dataset,
    )
    return PreparedData(manifest, train, test, fold_of_row)


def save_prepared(config: RunConfig, data: PreparedData) -> None:
    """Write resolved configuration, manifest and folds into the run folder."""
    write_json(config.folder / "config.json", config.to_json())
    data.manifest.write(config.folder / "manifest.parquet")
    folds = {row.path: int(fold) for row, fold in zip(data.train, data.fold_of_row, strict=True)}
    write_json(config.folder / "folds.json", folds)


def load_prepared(config: RunConfig) -> PreparedData:
    """Read what :func:`save_prepared` wrote.

    Raises:
        ModelError: nothing was trained here, or with another configuration; says which command to run.
    """
    path = config.folder / "config.json"
    if not path.exists():
        raise ModelError(
            f"{config.folder}: nothing trained there yet. First run: {config.options.command('train-all')}"
        )
    saved, wanted = read_json(path), config.to_json()
    for part in ("dataset", "recipe", "seed"):
        if saved[part] != wanted[part]:
            raise ModelError(
                f"{config.folder}: trained with {_difference(part, saved[part], wanted[part])}. "
                "Give the same -o, --seed and --minority as in training, or train again with: "
                f"{config.options.command('train-all')}"
            )
    manifest = Manifest.read(config.folder / "manifest.parquet")
    folds: dict[str, int] = read_json(config.folder / "folds.json")
    train = manifest.usable("train")
    fold_of_row = np.array([folds[row.path] for row in train], dtype=np.int64)
    return PreparedData(manifest, train, manifest.usable("test"), fold_of_row)


def _difference(part: str, saved: object, wanted: object) -> str:
    """The first key in which two configurations differ, in words."""
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for key in sorted(set(saved) | set(wanted)):
            if saved.get(key) != wanted.get(key):
                return _difference(key, saved.get(key), wanted.get(key))
    return f"{part}={saved!r}, but now {part}={wanted!r} is asked for"
