"""What layouts share whose images lie within larger files: packs and shards."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from contracts.errors import DataError
from imagedata.layouts.layout import BaseLayout, require_folder_name
from imagedata.layouts.listed_image import Split


class ImageContainers(BaseLayout):
    """Images within larger files, written out as files into folders named by their classes.

    Attributes:
        train: names of the files, below the root, with the training images.
        test: the same of the test images, or None when they are to be drawn from ``train``.
        label_of_class: class name → its label as it is written in the files; others are left out.
    """

    train: Annotated[list[str], Field(min_length=1)]
    test: Annotated[list[str], Field(min_length=1)] | None = None
    label_of_class: dict[str, Any]

    @model_validator(mode="after")
    def _labels_are_one_class_each(self) -> Self:
        labels = {str(label) for label in self.label_of_class.values()}
        if len(labels) != len(self.label_of_class):
            raise ValueError(f"label_of_class gives two classes one label: {self.label_of_class}")
        for name in self.label_of_class:
            require_folder_name(name)
        return self

    @abstractmethod
    def files_of(self, root: Path, name: str) -> list[Path]:
        """The files that a name stands for; empty where there is none."""

    def files(self, root: Path, split: Split) -> list[Path]:
        """Files of a split, in the order of the names; none of them twice.

        Raises:
            DataError: a name stands for no file.
        """
        found: list[Path] = []
        for name in self.train if split == "train" else self.test or []:
            paths = self.files_of(root, name)
            if not paths:
                raise DataError(f"{root / name}: no such file any more. Put it back and run again.")
            found += [path for path in paths if path not in found]
        return found

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that have files of their own."""
        return ("train", "test") if self.test else ("train",)

    def needed_paths(self, class_names: Sequence[str]) -> list[str]:
        """All files."""
        del class_names
        return [*self.train, *(self.test or [])]

    def places(self, class_name: str, splits: set[Split]) -> list[tuple[Split, str]]:
        """The last file of each split, which for ``idx`` is the one with the labels."""
        del class_name, splits
        train: list[tuple[Split, str]] = [("train", self.train[-1])]
        return [*train, ("test", self.test[-1])] if self.test else train

    @property
    def own_test(self) -> str | None:
        """The test files."""
        return " and ".join(self.test) if self.test else None

    @property
    def writes_images(self) -> bool:
        """Always."""
        return True

    def require_classes(self, classes: Sequence[str]) -> None:
        """Every class has a label."""
        missing = [name for name in classes if name not in self.label_of_class]
        if missing:
            raise ValueError(f"layout.label_of_class gives no label for {missing}")
