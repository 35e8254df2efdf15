"""One folder per class, with or without a folder for each split, patient or lot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from imagedata.layouts.layout import BaseLayout, DataSet, Recognised
from imagedata.layouts.listed_image import ListedImage, Split
from imagedata.layouts.materialiser import Materialiser
from imagedata.layouts.regions import MaskedImages
from imagedata.layouts.walk import class_subfolders, image_files, matching_paths, split_folders


class ClassFolders(BaseLayout):
    """One folder per class, searched recursively.

    Attributes:
        kind: which layout this is.
        roots: folders below the data directory that may hold the set; the first that exists is taken.
        train: path pattern below the root; ``{class}`` stands for the class folder. A part with ``*`` in it
            stands for every folder whose name it matches, as in ``*/{class}`` for one folder per patient.
        test: the same for the test images, or None when they are to be drawn from ``train``.
        folder_of_class: folder names where they differ from the class names.
        region_masks: path pattern of folders with a mask for each image, by the image's file name; what a
            mask leaves dark is made black in the image before anything else sees it (see
            :mod:`imagedata.layouts.regions`). None takes the images as they are.
    """

    kind: Literal["class_folders"] = "class_folders"
    train: str = "{class}"
    test: str | None = None
    folder_of_class: dict[str, str] = Field(default_factory=dict)
    region_masks: str | None = None

    @field_validator("train", "test", "region_masks")
    @classmethod
    def _pattern_tells_classes_apart(cls, value: str | None) -> str | None:
        if value is not None and "{class}" not in value:
            raise ValueError("{class} must stand somewhere in it, in place of the class folder")
        return value

    @model_validator(mode="after")
    def _masks_have_one_place(self) -> Self:
        if self.region_masks is not None and ("*" in self.region_masks or "*" in self.train):
            raise ValueError("region_masks need one folder per class; leave * out of it and of train")
        if self.region_masks is not None and self.test is not None:
            raise ValueError("region_masks are those of the training folders; leave test out")
        return self

    def needed_paths(self, class_names: Sequence[str]) -> list[str]:
        """Every class folder of every pattern."""
        patterns = [self.train, *filter(None, (self.test, self.region_masks))]
        return [self._folder(pattern, name) for pattern in patterns for name in class_names]

    def images(self, class_names: Sequence[str], root: Path) -> Iterator[ListedImage]:
        """All images below the class folders."""
        for name in class_names:
            for split, folder in self._folders_of(name, root):
                for path in image_files(folder):
                    yield ListedImage(path.relative_to(root).as_posix(), name, split)

    def folders(self, class_names: Sequence[str], root: Path) -> Iterator[Path]:
        """The folders of every class, in both splits."""
        for name in class_names:
            yield from (folder for _, folder in self._folders_of(name, root))

    def places(self, class_name: str, splits: set[Split]) -> list[tuple[Split, str]]:
        """The class folder of each split."""
        del splits  # a test folder that the spec names must hold every class
        train: list[tuple[Split, str]] = [("train", self._folder(self.train, class_name))]
        return [*train, ("test", self._folder(self.test, class_name))] if self.test else train

    @property
    def own_test(self) -> str | None:
        """The pattern of the test folders."""
        return self.test

    @property
    def writes_images(self) -> bool:
        """Masked images are files of our own."""
        return self.region_masks is not None

    def materialiser(self, data_set: DataSet, source: Path, below: Path) -> Materialiser:
        """The images as they are, or with what their masks leave dark made black."""
        masks = self.region_masks
        if masks is None:
            return Materialiser(source)
        folder_of_class = {name: self._folder(masks, name) for name in data_set.class_names}
        return MaskedImages(
            data_set.name,
            source,
            below,
            masks=masks,
            folder_of_class=folder_of_class,
            window=data_set.window,
        )

    def shown_path(self, path: str) -> str:
        """A class folder with its images."""
        return f"{super().shown_path(path)}/*.jpg"

    @classmethod
    def recognise(cls, place: Path) -> Recognised | None:
        """Two folders or more, perhaps below a training folder, are classes."""
        if not place.is_dir():
            return None
        train, test = split_folders(place)
        class_root = place / train if train else place
        classes = class_subfolders(class_root)
        if len(classes) < 2:
            return None
        layout = {
            "kind": "class_folders",
            "train": f"{train}/{{class}}" if train else "{class}",
            "test": f"{test}/{{class}}" if train and test else None,
        }

        def count() -> dict[str, int]:
            return {name: sum(1 for _ in image_files(class_root / name)) for name in classes}

        return Recognised(layout, classes, count)

    def _folders_of(self, class_name: str, root: Path) -> Iterator[tuple[Split, Path]]:
        for split, pattern in self.places(class_name, set()):
            yield from ((split, folder) for folder in matching_paths(root, pattern))

    def _folder(self, pattern: str, class_name: str) -> str:
        return pattern.replace("{class}", self.folder_of_class.get(class_name, class_name))
