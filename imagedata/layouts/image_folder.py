"""One folder of images that are all of one class, or of which nobody knows the class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from imagedata.file_names import is_image_name, is_junk
from imagedata.layouts.layout import BaseLayout, DataSet, Recognised
from imagedata.layouts.listed_image import ListedImage, Split
from imagedata.layouts.splits import joined_training, split_folders, validation_as_test
from imagedata.layouts.walk import class_subfolders, image_files, path_below, subfolders, unused_images


class ImageFolder(BaseLayout):
    """Images of the first of two classes; of the second, the minority, there is none.

    Attributes:
        kind: which layout this is.
        roots: folders below the data directory that may hold the set; the first that exists is taken.
        folder: folder with the training images, searched recursively.
        test: folder with test images of the same class, or None.
        validation: folder with validation images, which join the training images because our folds take the
            place of a validation set; None where there is none.
    """

    kind: Literal["image_folder"] = "image_folder"
    folder: str = "."
    test: str | None = None
    validation: str | None = None

    def needed_paths(self, class_names: Sequence[str]) -> list[str]:
        """The folders."""
        del class_names
        return [path for path, _ in self._folders()]

    def images(self, class_names: Sequence[str], root: Path) -> Iterator[ListedImage]:
        """All images below the folders."""
        for folder, split in self._folders():
            for path in image_files(root / folder):
                yield ListedImage(path_below(root, path), class_names[0], split)

    def folders(self, class_names: Sequence[str], root: Path) -> Iterator[Path]:
        """The folders."""
        del class_names
        yield from (root / folder for folder, _ in self._folders())

    def places(self, class_name: str, splits: set[Split]) -> list[tuple[Split, str]]:
        """The folder of each split."""
        del class_name, splits
        return [(split, folder) for folder, split in self._folders()]

    @property
    def own_test(self) -> str | None:
        """The test folder."""
        return self.test

    def require_classes(self, classes: Sequence[str]) -> None:
        """Two classes: that of the images and the minority."""
        if len(classes) != 2:
            raise ValueError(f"image_folder holds one of two classes, not of {list(classes)}")

    def shown_path(self, path: str) -> str:
        """A folder with its images."""
        return "*.jpg" if path == "." else f"{super().shown_path(path)}/*.jpg"

    def may_lack_the_minority(self, data_set: DataSet, root: Path) -> bool:
        """It has none."""
        del data_set, root
        return True

    def reading_notes(self, data_set: DataSet, root: Path) -> list[str]:
        """What the images were taken for, and what became of validation images."""
        count = sum(1 for _ in image_files(root / self.folder))
        where = "" if self.folder == "." else f" in {self.folder}"
        normal = data_set.class_names[0]
        notes = [
            f"Read {count:,} images{where} without labels. If all of them are normal, say so with "
            "--normal NAME, the name of their class; if some are known not to be, give each class a folder."
            if data_set.unlabelled
            else f"Read {count:,} images{where} as {normal}; there is no folder of another class."
        ]
        if self.validation:
            found = sum(1 for _ in image_files(root / self.validation))
            notes.append(joined_training(found, self.validation))
        return [*notes, *(validation_as_test(self.test) if self.test else [])]

    def unused_images(self, data_set: DataSet, root: Path) -> dict[str, int]:
        """Images beside the folders."""
        return unused_images(root, {image.path for image in self.images(data_set.class_names, root)})

    @classmethod
    def recognise(cls, place: Path, stated: Mapping[str, Any]) -> Recognised | None:
        """Images without folders of classes, or a single folder of a class, with or without splits."""
        del stated
        if not place.is_dir():
            return None
        splits = split_folders(place)
        class_root = place / splits.train if splits.train else place
        classes = class_subfolders(class_root)
        if len(classes) > 1:
            return None
        if not classes:
            # Folders with other images beside a training folder hold labels that would be lost.
            others = [name for name in subfolders(place) if name != splits.train]
            is_flat = _holds_images(class_root) and not any(any(image_files(place / each)) for each in others)
            return cls.whole(place) if is_flat else None
        name = classes[0]
        if not any(image_files(class_root / name)):
            return None
        return Recognised(
            cls._layout_of_class(place, name), [name], dict, question=_question(class_root, name)
        )

    @classmethod
    def whole(cls, place: Path) -> Recognised | None:
        """All images below a folder, whatever its folders are called; None where there is none."""
        if not any(image_files(place)):
            return None
        return Recognised({"kind": "image_folder", "folder": "."}, [], dict)

    @classmethod
    def _layout_of_class(cls, place: Path, name: str) -> dict[str, Any]:
        """Keys of the layout where splits lie above the class's folder, within it, or nowhere."""
        splits, pattern = split_folders(place), f"{{split}}/{name}"
        if not splits.train:
            splits, pattern = split_folders(place / name), f"{name}/{{split}}"
        if not splits.train:
            return {"kind": "image_folder", "folder": name}
        train, test, validation = (part and pattern.replace("{split}", part) for part in splits)
        others = {"test": test, "validation": validation}
        return {"kind": "image_folder", "folder": train} | {
            key: path for key, path in others.items() if path and any(image_files(place / path))
        }

    def _folders(self) -> list[tuple[str, Split]]:
        optional: tuple[tuple[str | None, Split], ...] = ((self.validation, "train"), (self.test, "test"))
        return [(self.folder, "train"), *((path, split) for path, split in optional if path)]


def _holds_images(folder: Path) -> bool:
    """Whether images lie in the folder itself."""
    return any(
        is_image_name(path.name) and not is_junk(path.name) for path in folder.iterdir() if path.is_file()
    )


def _question(class_root: Path, name: str) -> str:
    """What stands against taking a single folder for all there is of the normal images; empty for nothing."""
    if _holds_images(class_root):
        return (
            f"{class_root}: it holds images itself, and more in its folder {name}. Say --normal {name} if "
            "the folder holds the normal ones, which alone are then used, or --unlabelled to take them all."
        )
    inner = class_subfolders(class_root / name)
    if len(inner) > 1 and not split_folders(class_root / name).train:
        shown = ", ".join(inner[:3]) + (", …" if len(inner) > 3 else "")
        return (
            f"{class_root}: its only folder, {name}, holds the folders {shown}. If these are classes, name "
            f"{class_root / name}; if all images in them are normal, say --normal {name}."
        )
    return ""
