"""One folder per class, with or without a folder for each split, patient or lot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from imagedata.layouts.layout import BaseLayout, DataSet, Recognised
from imagedata.layouts.listed_image import ListedImage, Split
from imagedata.layouts.materialiser import Materialiser
from imagedata.layouts.regions import MaskedImages
from imagedata.layouts.splits import SplitFolders, joined_training, split_folders, validation_as_test
from imagedata.layouts.walk import class_subfolders, image_files, matching_paths, path_below, unused_images


class ClassFolders(BaseLayout):
    """One folder per class, searched recursively.

    Attributes:
        kind: which layout this is.
        roots: folders below the data directory that may hold the set; the first that exists is taken.
        train: path pattern below the root; ``{class}`` stands for the class folder. A part with ``*`` in it
            stands for every folder whose name it matches, as in ``*/{class}`` for one folder per patient.
        test: the same for the test images, or None when they are to be drawn from ``train``.
        validation: the same for validation images, which join the training images because our folds take
            the place of a validation set; a class may have none there.
        folder_of_class: folder names where they differ from the class names.
        kinds_of_class: class → folders that are kinds of it, kept in the manifest as subtypes; a kind may be
            missing in a split.
        region_masks: path pattern of folders with a mask for each image, by the image's file name; what a
            mask leaves dark is made black in the image before anything else sees it (see
            :mod:`imagedata.layouts.regions`). None takes the images as they are.
    """

    kind: Literal["class_folders"] = "class_folders"
    train: str = "{class}"
    test: str | None = None
    validation: str | None = None
    folder_of_class: dict[str, str] = Field(default_factory=dict)
    kinds_of_class: dict[str, list[str]] = Field(default_factory=dict)
    region_masks: str | None = None

    @field_validator("train", "test", "validation", "region_masks")
    @classmethod
    def _pattern_tells_classes_apart(cls, value: str | None) -> str | None:
        if value is not None and "{class}" not in value:
            raise ValueError("{class} must stand somewhere in it, in place of the class folder")
        return value

    @model_validator(mode="after")
    def _masks_have_one_place(self) -> Self:
        if self.region_masks is not None and ("*" in self.region_masks or "*" in self.train):
            raise ValueError("region_masks need one folder per class; leave * out of it and of train")
        if self.region_masks is not None and (self.test is not None or self.validation is not None):
            raise ValueError("region_masks are those of the training folders; leave test and validation out")
        if self.region_masks is not None and self.kinds_of_class:
            raise ValueError("region_masks need one folder per class; leave kinds_of_class out")
        return self

    def needed_paths(self, class_names: Sequence[str]) -> list[str]:
        """Every class folder of every pattern."""
        patterns = [self.train, *filter(None, (self.test, self.region_masks))]
        whole = [name for name in class_names if name not in self.kinds_of_class]
        return [self._folder(pattern, name) for pattern in patterns for name in whole]

    def images(self, class_names: Sequence[str], root: Path) -> Iterator[ListedImage]:
        """All images below the class folders."""
        for name in class_names:
            for split, folder, kind in self._folders_of(name, root):
                for path in image_files(folder):
                    yield ListedImage(path_below(root, path), name, split, subtype=kind)

    def folders(self, class_names: Sequence[str], root: Path) -> Iterator[Path]:
        """The folders of every class, in all splits."""
        for name in class_names:
            yield from (folder for _, folder, _ in self._folders_of(name, root))

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

    def may_lack_the_minority(self, data_set: DataSet, root: Path) -> bool:
        """Its folder is there, as :meth:`find` made sure."""
        del data_set, root
        return True

    def reading_notes(self, data_set: DataSet, root: Path) -> list[str]:
        """What became of validation images."""
        if self.validation:
            names = (self.kinds_of_class.get(name, [name]) for name in data_set.class_names)
            folders = (self._folder(self.validation, each) for kinds in names for each in kinds)
            paths = (path for folder in folders for path in matching_paths(root, folder))
            return [joined_training(sum(1 for path in paths for _ in image_files(path)), self.validation)]
        return validation_as_test(self.test) if self.test else []

    def unused_images(self, data_set: DataSet, root: Path) -> dict[str, int]:
        """Images that lie in no folder of a class, masks of regions excepted."""
        used = {image.path for image in self.images(data_set.class_names, root)}
        for name in data_set.class_names if self.region_masks else ():
            for folder in matching_paths(root, self._folder(str(self.region_masks), name)):
                used.update(path.relative_to(root).as_posix() for path in image_files(folder))
        return unused_images(root, used)

    @classmethod
    def recognise(cls, place: Path, stated: Mapping[str, Any]) -> Recognised | None:
        """Two folders or more are classes: beside, below or above the folders of splits."""
        del stated
        if not place.is_dir():
            return None
        splits = split_folders(place)
        class_root = place / splits.train if splits.train else place
        classes = class_subfolders(class_root)
        if len(classes) < 2:
            return None
        pattern = "{split}/{class}"
        if not splits.train:
            splits, pattern = _splits_of_classes(place, classes), "{class}/{split}"
        train, test, validation = (name and pattern.replace("{split}", name) for name in splits)
        layout = {"kind": "class_folders", "train": train or "{class}", "test": test if train else None}
        if train and validation:
            layout["validation"] = validation

        def count() -> dict[str, int]:
            return {name: sum(1 for _ in image_files(class_root / name)) for name in classes}

        return Recognised(layout, classes, count)

    def _folders_of(self, class_name: str, root: Path) -> Iterator[tuple[Split, Path, str | None]]:
        patterns: list[tuple[Split, str | None]] = [("train", self.train), ("test", self.test)]
        kinds = self.kinds_of_class.get(class_name, [None])
        for split, pattern in [*patterns, ("train", self.validation)]:
            for kind in kinds if pattern else ():
                place = (
                    str(pattern).replace("{class}", kind) if kind else self._folder(str(pattern), class_name)
                )
                yield from ((split, folder, kind) for folder in matching_paths(root, place))

    def _folder(self, pattern: str, class_name: str) -> str:
        return pattern.replace("{class}", self.folder_of_class.get(class_name, class_name))


def _splits_of_classes(place: Path, classes: Sequence[str]) -> SplitFolders:
    """The folders of splits that lie within the class folders, as in ``scratched/train``.

    They count only where every class names its training folder, and its test folder, alike. Otherwise all
    images of a class are training images, wherever they lie in its folder.
    """
    found = [split_folders(place / name) for name in classes]
    trains, tests = {each.train for each in found}, {each.test for each in found}
    if len(trains) > 1 or len(tests) > 1 or None in trains:
        return SplitFolders(None, None, None)
    validations = {each.validation for each in found} - {None}
    # Validation images of all classes are found by one pattern, so their folders must agree as well.
    return found[0]._replace(validation=validations.pop() if len(validations) == 1 else None)
