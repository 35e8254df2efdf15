"""Training, test and validation images: what people call them, and what becomes of each."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from imagedata.layouts.walk import subfolders

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing")
VALIDATION_NAMES = ("val", "valid", "validation", "dev")
"""Names of splits as people write them, in any capitals."""


class SplitFolders(NamedTuple):
    """Names of the subfolders that are splits of a data set; None where there is none.

    Attributes:
        train: the training images.
        test: the test images. Without a test folder, a validation folder is the test set.
        validation: images for validation beside a test folder. Our folds validate, so they join training.
    """

    train: str | None
    test: str | None
    validation: str | None


def split_folders(folder: Path) -> SplitFolders:
    """The subfolders with training, test and validation images."""
    names = subfolders(folder)

    def first_of(accepted: Collection[str]) -> str | None:
        return next((name for word in accepted for name in names if name.lower() == word), None)

    train, test, validation = map(first_of, (TRAIN_NAMES, TEST_NAMES, VALIDATION_NAMES))
    return SplitFolders(train, test, validation) if test else SplitFolders(train, validation, None)


def joined_training(count: int, where: str) -> str:
    """The sentence about validation images beside test images."""
    images = "image joins" if count == 1 else "images join"
    return (
        f"{count:,} validation {images} the training images ({where}): the folds take the place of a "
        "validation set."
    )


def validation_as_test(name: str, where: str | None = None) -> list[str]:
    """The sentence about a validation set that is the only test set; none for a set that is called test.

    Args:
        name: path pattern or name of the test images.
        where: how to call them in the sentence, if not by their name.
    """
    if not any(part.lower() in VALIDATION_NAMES for part in name.split("/")):
        return []
    return [f"The test set is {where or name}, as there is no other: nothing is trained or tuned on it."]
