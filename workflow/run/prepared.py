"""What every training command begins with: manifest, folds, and the rows behind them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError, UsageError
from contracts.files import digest_of, read_json, write_json
from contracts.regime import Regime
from contracts.rows import FloatArray, LabelArray
from imagedata.manifest import Manifest
from imagedata.manifest_row import ManifestRow
from imagedata.materialise import materialise, root_of_images
from imagedata.views import View
from reporting.terminal import progress_bar
from workflow.run.copies.views import views_of
from workflow.run.feedback import FeedbackImages
from workflow.run.moved import asked_for_a_place, folders_of, hint_of_other_name, moved_manifest
from workflow.run.put_aside import PutAside
from workflow.settings.config import RunConfig, difference_of_settings

Measured = Literal["test_set", "cross_validation"]
"""On which rows figures stand: those of a test set, or the training rows, by nested cross-fitting."""


@dataclass(frozen=True)
class PreparedData:
    """Rows that a run works on.

    Attributes:
        manifest: every listed image.
        train: usable training rows, in manifest order.
        test: usable test rows.
        fold_of_row: ``[N]`` fold that holds each training row out.
        more_folds: the same of each further repeat of the cross-fitting.
        augmented: changed copies of training rows, for supervised members to fit on beside their sources;
            no fold holds them out and nothing is measured on them.
        augmented_root: folder that their paths are relative to.
        added: feedback images of ``update``, for the stacker and for banks; sorted by digest. Where nothing
            is held out they are training rows instead (:func:`training_rows`), behind the manifest's.
        added_root: folder that the paths of feedback images are relative to.
        views: path → view of the training rows that have one, for members that learn from views; see
            :mod:`workflow.run.copies.views`.
        targets: ``[N, K]`` float32 class shares that whole CNNs learn in place of the training rows' labels
            (see :class:`contracts.member.FitContext`); None in all runs but a student's.
    """

    manifest: Manifest
    train: list[ManifestRow]
    test: list[ManifestRow]
    fold_of_row: npt.NDArray[np.int64]
    more_folds: tuple[npt.NDArray[np.int64], ...] = ()
    augmented: tuple[ManifestRow, ...] = ()
    augmented_root: Path = Path()
    added: tuple[ManifestRow, ...] = ()
    added_root: Path = Path()
    views: Mapping[str, View] = field(default_factory=dict)
    targets: FloatArray | None = None

    @property
    def regime(self) -> Regime:
        """What is known about the labels of the training rows."""
        if any(row.label == self.manifest.class_names[-1] for row in self.train):
            return "labelled"
        return "unlabelled" if self.manifest.unlabelled else "normal_only"

    @property
    def joined(self) -> list[ManifestRow]:
        """Feedback images among the training rows; see :func:`training_rows`."""
        return [row for row in self.train if row.split == "added"]

    @property
    def own_train(self) -> list[ManifestRow]:
        """The training rows of the data set itself."""
        return [row for row in self.train if row.split != "added"]

    def counts(self) -> dict[str, int]:
        """Training rows per class, feedback images that joined them included."""
        counted = Counter(row.label for row in self.train)
        return {name: counted[name] for name in self.manifest.class_names}

    @property
    def n_repeats(self) -> int:
        """How often the cross-fitting is done."""
        return 1 + len(self.more_folds)

    @property
    def measured(self) -> Measured:
        """On which rows figures stand, where there is a minority image to measure anything on."""
        return "test_set" if self.test else "cross_validation"

    @property
    def judged(self) -> list[ManifestRow]:
        """The rows that figures stand on: the test rows, or without any the training rows."""
        return self.test or self.train

    def of_repeat(self, repeat: int) -> PreparedData:
        """The same rows with the folds of one repeat, from 0."""
        folds = (self.fold_of_row, *self.more_folds)[repeat]
        return self if repeat == 0 else replace(self, fold_of_row=folds, more_folds=())

    @property
    def folds_digest(self) -> str:
        """Digest of the assignment of rows to folds."""
        return digest_of([[row.path for row in self.train], self.fold_of_row.tolist()])

    @property
    def train_digest(self) -> str:
        """Digest of all that a fit and its out-of-fold scores depend on, which excludes the test set."""
        # Named only where there are no labels, so that all other fits keep the keys that they had.
        unlabelled = ["unlabelled"] if self.regime == "unlabelled" else []
        return digest_of([self._facts(self.train), self.folds_digest, *unlabelled])

    @property
    def test_digest(self) -> str:
        """Digest of the test rows."""
        return digest_of(self._facts(self.test))

    @property
    def augmented_digest(self) -> str:
        """Digest of the augmented copies: what they are and where they belong."""
        return digest_of([[row.source, row.label, row.group, row.sha256] for row in self.augmented])

    @property
    def added_digest(self) -> str:
        """Digest of the feedback images: what they are and where they belong."""
        return digest_of([[row.sha256, row.label, row.group] for row in self.added])

    @property
    def targets_digest(self) -> str:
        """Digest of the soft targets; empty where there are none."""
        return "" if self.targets is None else hashlib.sha256(self.targets.tobytes()).hexdigest()[:16]

    @property
    def source_of_copy(self) -> npt.NDArray[np.int64]:
        """``[M]`` position among the training rows of the source of each augmented copy."""
        position = {row.path: i for i, row in enumerate(self.train)}
        return np.array([position[row.source] for row in self.augmented if row.source], dtype=np.int64)

    def _facts(self, rows: list[ManifestRow]) -> list[Any]:
        names = list(self.manifest.class_names)
        return [names, [[row.path, row.label, row.group, row.sha256] for row in rows]]

    def labels(self, rows: list[ManifestRow]) -> LabelArray:
        """``[N]`` class index of rows, minority last."""
        names = self.manifest.class_names
        return np.array([names.index(row.label) for row in rows], dtype=np.int64)

    def file_of(self, row: ManifestRow) -> Path:
        """The file of a row's image."""
        roots = {"augmented": self.augmented_root, "added": self.added_root}
        return roots.get(row.split, self.manifest.root) / row.path


class FeedbackChangedError(ModelError):
    """Feedback images that are training rows were added or taken away since the run was trained."""


def prepare_data(config: RunConfig) -> PreparedData:
    """List, inspect, split and fold; the same call always gives the same rows.

    Raises:
        DataError: the data set is missing, a class is empty, or folds cannot be made.
    """
    manifest = manifest_of(config)
    PutAside.read(config.folder, "golden").require_untrained(manifest.usable("train"))
    settings = config.spec.augment_minority
    if settings is not None:
        from workflow.run.copies.augmented import with_augmented_copies

        folder = _augmented_root(config)
        manifest = with_augmented_copies(manifest, settings, config.decode, config.seed, folder)
    return with_folds(config, manifest)


def prepare_to_train(config: RunConfig) -> PreparedData:
    """As :func:`prepare_data`, for rows that an ensemble can be fitted and judged on afterwards.

    Raises:
        UsageError: there are two folds and no test set, which ``ensemble`` would refuse after all fits.
        DataError: as of :func:`prepare_data`.
    """
    data = prepare_data(config)
    if data.test or data.regime != "labelled":
        return data
    is_minority = data.labels(data.train) == len(data.manifest.class_names) - 1
    for folds in (data.fold_of_row, *data.more_folds):
        # A minority in one fold only is judged by the fit on all rows; see ensemble.nested.cross_fitted.
        if len(np.unique(folds)) == 2 == len(np.unique(folds[is_minority])):
            raise UsageError(
                f"{data.manifest.dataset}: recipe {config.recipe.name} has folds=2, and there is no test "
                "set. Each fold is then judged by an ensemble of the other folds' scores, which has to be "
                "cross-fitted itself, on two folds or more. Use -o folds=3, or set a test set aside."
            )
    return data


def manifest_of(config: RunConfig) -> Manifest:
    """The manifest of a run's data set; its usable images lie as files below the manifest's root.

    Raises:
        DataError: the data set is missing or damaged, or a class is empty.
    """
    return materialise(config.spec, folders_of(config), config.decode, config.seed, progress_bar)


def training_rows(config: RunConfig, manifest: Manifest) -> list[ManifestRow]:
    """The rows that members are fitted on: the manifest's, and without a test set feedback images as well.

    With a test set its figures say what an update costs, and members stay as they are; without one there are
    few labels, training takes seconds, and every label is used for all it is worth. Of images that nobody had
    labelled, those that were labelled since take the place of their rows.
    """
    own = manifest.usable("train")
    if manifest.usable("test"):
        return own
    joined, _ = FeedbackImages.read(config.folder).usable(config.spec, own, [])
    held_back = PutAside.read(config.folder, "held_back").rows
    elsewhere = {row.sha256 for row in joined} | {row.sha256 for row in held_back}
    return [*(row for row in own if row.sha256 not in elsewhere), *joined]


def seed_of(*parts: int | str) -> int:
    """A seed below 2**31 that follows from the parts and nothing else."""
    return int(hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:8], 16) % (2**31)


def _augmented_root(config: RunConfig) -> Path:
    """Folder below which the augmented copies of all runs lie."""
    return Path(os.path.abspath(config.options.runs / "augmented"))  # noqa: PTH100


def group_numbers(rows: list[ManifestRow]) -> npt.NDArray[np.int64]:
    """``[N]`` numbers for the rows' groups, in order of appearance; equal groups, equal numbers."""
    number_of_group = {group: i for i, group in enumerate(dict.fromkeys(row.group for row in rows))}
    return np.array([number_of_group[row.group] for row in rows], dtype=np.int64)


def with_folds(config: RunConfig, manifest: Manifest) -> PreparedData:
    """Assign folds to the training rows of a manifest, once a repeat.

    Raises:
        DataError: a class has fewer images or groups than folds.
    """
    train = training_rows(config, manifest)
    folds = [_folds_of_repeat(config, manifest, train, r) for r in range(repeats_of(config, manifest, train))]
    return _prepared(config, manifest, train, folds[0], tuple(folds[1:]))


def repeats_of(config: RunConfig, manifest: Manifest, train: list[ManifestRow]) -> int:
    """How often the cross-fitting is done: as the recipe says, or as often as figures need.

    Without a test set the figures are cross-validated, and depend on which rows share a fold. Three repeats
    average that out, where they cost seconds. Without an image of the minority there is no such figure.
    """
    stated = config.recipe.repeats
    if stated is not None:
        return stated
    has_minority = any(row.label == manifest.class_names[-1] for row in train)
    is_cross_validated = not manifest.usable("test") and has_minority
    is_cheap = all(plan.reads_cached_features for plan in config.members)
    return _REPEATS_OF_FIGURES if is_cross_validated and is_cheap else 1


_REPEATS_OF_FIGURES = 3


def _prepared(
    config: RunConfig,
    manifest: Manifest,
    train: list[ManifestRow],
    fold_of_row: npt.NDArray[np.int64],
    more_folds: tuple[npt.NDArray[np.int64], ...],
) -> PreparedData:
    augmented, folder = tuple(manifest.usable("augmented")), _augmented_root(config)
    return PreparedData(
        manifest,
        train,
        manifest.usable("test"),
        fold_of_row,
        more_folds,
        augmented,
        folder,
        added_root=config.folder,
        views=views_of(config, train),
    )


def _folds_of_repeat(
    config: RunConfig, manifest: Manifest, train: list[ManifestRow], repeat: int
) -> npt.NDArray[np.int64]:
    """``[N]`` folds; they follow from the rows, the run's seed and the repeat."""
    from imagedata.folds import assign_folds

    names = manifest.class_names
    return assign_folds(
        labels=np.array([names.index(row.label) for row in train], dtype=np.int64),
        groups=np.array([row.group for row in train]),
        class_names=names,
        n_folds=config.recipe.folds,
        # The first repeat's is the run's own seed, so that it equals a run without repeats.
        seed=config.seed if repeat == 0 else seed_of(config.seed, "folds", repeat),
        dataset=manifest.dataset,
    )


# Of config.json, and with it of the whole run folder. Raised when an older folder cannot be read any more.
_FORMAT = 2


def save_prepared(config: RunConfig, data: PreparedData) -> None:
    """Write manifest, folds and, last, the resolved configuration into the run folder.

    The configuration carries the digests of the other two, so that a kill between the writes leaves
    files that :func:`load_prepared` refuses to put together.
    """
    data.manifest.write(config.folder / "manifest.parquet")
    folds = {row.path: int(fold) for row, fold in zip(data.train, data.fold_of_row, strict=True)}
    write_json(config.folder / "folds.json", folds)
    write_json(
        config.folder / "config.json", {"format": _FORMAT, **config.to_json(), "digests": _digests(data)}
    )


def _digests(data: PreparedData) -> dict[str, str]:
    return {"manifest": data.manifest.digest, "folds": data.folds_digest}


def load_prepared(config: RunConfig) -> PreparedData:
    """Read what :func:`save_prepared` wrote.

    Raises:
        ModelError: nothing was trained here, or with another configuration, or on other images than those
            at the place that is asked for; says which command to run.
        DataError: the images are not where they are said to be.
    """
    again = config.options.command("train-all")
    path = config.folder / "config.json"
    if not path.exists():
        raise ModelError(
            f"{config.folder}: nothing trained there yet. First run: {again}{hint_of_other_name(config)}"
        )
    try:
        saved = read_json(path)
        found = saved.get("format", 1)
        if found != _FORMAT:
            raise ModelError(
                f"{config.folder}: written by another version of outnumbered (format {found}, this version "
                f"reads format {_FORMAT}). Train again with: {again}"
            )
        data = _read_rows(config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # deleted or edited
        raise ModelError(f"{config.folder}: some files are missing or damaged. Run again: {again}") from None
    difference = difference_of_settings(saved, config.to_json())
    if difference is not None:
        raise ModelError(
            f"{config.folder}: trained with {difference}. "
            f"Give the same -o, --seed and --minority as in training, or train again with: {again}"
        )
    if saved.get("digests") != _digests(data):
        raise ModelError(f"{config.folder}: a training command was interrupted there. Run again: {again}")
    if asked_for_a_place(config):
        root = root_of_images(config.spec, folders_of(config))
        if root != data.manifest.root:
            data = replace(data, manifest=moved_manifest(config, data.manifest, root))
    if not data.test:
        return data
    added, _ = FeedbackImages.read(config.folder).usable(config.spec, data.train, data.test)
    return replace(data, added=tuple(added))


def _read_rows(config: RunConfig) -> PreparedData:
    manifest = Manifest.read(config.folder / "manifest.parquet")
    folds: dict[str, int] = read_json(config.folder / "folds.json")
    train = training_rows(config, manifest)
    if not manifest.usable("test") and set(folds) != {row.path for row in train}:
        raise FeedbackChangedError(
            f"{config.folder}: feedback images were added or taken away since it was trained. "
            f"Run again: {config.options.command('train-all')}"
        )
    fold_of_row = np.array([folds[row.path] for row in train], dtype=np.int64)
    n_repeats = repeats_of(config, manifest, train)
    more = tuple(_folds_of_repeat(config, manifest, train, repeat) for repeat in range(1, n_repeats))
    return _prepared(config, manifest, train, fold_of_row, more)
