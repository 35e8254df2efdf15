"""Images, kinds of anomalies and masks of a tree laid out as MVTec AD is."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from contracts.errors import DataError
from imagedata.file_names import is_image_name, is_junk
from imagedata.layouts.layout import BaseLayout, DataSet, Moves, Recognised
from imagedata.layouts.listed_image import ListedImage, Split
from imagedata.layouts.splits import SplitFolders, joined_training, split_folders, validation_as_test
from imagedata.layouts.walk import class_subfolders, image_files, subfolders, unused_images
from imagedata.plain_yaml import parse_yaml

_ANOMALOUS = "anomalous"
"""Name of the minority of a recognised tree, whose folders are kinds of it."""


_NORMAL_NAMES = ("good", "ok", "normal", "0")
"""Names, lower case, that a folder of normal images often has."""


class AnomalyFolders(BaseLayout):
    """MVTec's tree: normal images for training, normal ones and kinds of anomalies for testing.

    No anomaly lies among the training images, so that a supervised member would have nothing to learn
    from. A share of the labelled anomalies is therefore moved into training, kind by kind, drawn by a
    seeded hash of the files' bytes (:func:`imagedata.sampling.move_anomalies`); the others stay in the test
    set.

    Attributes:
        kind: which layout this is.
        roots: folders below the data directory that may be the category's; the first that exists is taken.
        train: folder of the training images; only its folder ``normal`` is read.
        test: folder of the test images; every folder in it but ``normal`` is a kind of anomaly.
        normal: name of the folders of normal images.
        test_normal: name of the folder of normal test images where it differs from ``normal``, such as ``0``.
        validation: folder of validation images, or None; its normal images join the training images because
            our folds take the place of a validation set.
        masks: folder of the anomalies' masks, ``<masks>/<kind of anomaly>/<name>_mask.png`` or
            ``<name>.png``; kept in the manifest to score localisation. A missing mask is no error.
        moved_share: share of each kind of anomaly that is moved into training, rounded; 0 moves none.
        moved_count: number of anomalies to move instead, divided among the kinds by their sizes.
    """

    kind: Literal["anomaly_folders"] = "anomaly_folders"
    train: str = "train"
    test: str = "test"
    normal: str = "good"
    test_normal: str | None = None
    validation: str | None = None
    masks: str = "ground_truth"
    moved_share: float = Field(default=0.5, ge=0.0, lt=1.0)
    moved_count: int | None = Field(default=None, ge=0)

    test_setting: ClassVar[str | None] = None

    @field_validator("test_normal", mode="before")
    @classmethod
    def _number_is_a_name(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def needed_paths(self, class_names: Sequence[str]) -> list[str]:
        """Both folders of normal images."""
        del class_names
        return [f"{self.train}/{self.normal}", f"{self.test}/{self._test_normal}"]

    @property
    def _test_normal(self) -> str:
        return self.normal if self.test_normal is None else self.test_normal

    def images(self, class_names: Sequence[str], root: Path) -> Iterator[ListedImage]:
        """Normal training images, normal test images, and anomalies with their kind and mask."""
        normal_class, anomaly_class = class_names
        for folder in filter(None, (self.train, self.validation)):
            for path in image_files(root / folder / self.normal):
                path_below = path.relative_to(root).as_posix()
                yield ListedImage(path_below, normal_class, "train", subtype=self.normal)
        for kind in (name for name in subfolders(root / self.test) if name != self._test_normal):
            masks = _masks_by_stem(root / self.masks / kind)
            for path in image_files(root / self.test / kind):
                found = masks.get(path.stem) or masks.get(f"{path.stem}_mask")
                yield ListedImage(
                    path=path.relative_to(root).as_posix(),
                    label=anomaly_class,
                    split="test",
                    subtype=kind,
                    mask=found.relative_to(root).as_posix() if found else None,
                )
        for path in image_files(root / self.test / self._test_normal):
            yield ListedImage(path.relative_to(root).as_posix(), normal_class, "test", subtype=self.normal)

    def folders(self, class_names: Sequence[str], root: Path) -> Iterator[Path]:
        """The folders of normal training and validation images, and every folder of test images."""
        del class_names
        yield from (root / folder / self.normal for folder in (self.train, self.validation) if folder)
        yield from (root / self.test / kind for kind in subfolders(root / self.test))

    def places(self, class_name: str, splits: set[Split]) -> list[tuple[Split, str]]:
        """The test folder alone: anomalies are moved from there to the training images later."""
        del class_name, splits
        return [("test", self.test)]

    @property
    def own_test(self) -> str | None:
        """The test folder."""
        return self.test

    def require_classes(self, classes: Sequence[str]) -> None:
        """Two classes: normal and anomalous."""
        if len(classes) != 2:
            raise ValueError(f"anomaly_folders tell normal and anomalous images apart, not {list(classes)}")

    def anomalies_to_move(self, held_out: Counter[str]) -> Moves | None:
        """``moved_count`` of all anomalies, or ``moved_share`` of each kind."""
        if self.moved_count is not None:
            return Moves(_dealt_out(self.moved_count, held_out), f"layout.moved_count={self.moved_count}")
        wanted = {kind: round(count * self.moved_share) for kind, count in held_out.items()}
        return Moves(wanted, f"layout.moved_share={self.moved_share:g}")

    def may_lack_the_minority(self, data_set: DataSet, root: Path) -> bool:
        """All test images may be normal."""
        del data_set, root
        return True

    def reading_notes(self, data_set: DataSet, root: Path) -> list[str]:
        """What became of validation images."""
        del data_set
        if self.validation:
            folder = f"{self.validation}/{self.normal}"
            return [joined_training(sum(1 for _ in image_files(root / folder)), folder)]
        return validation_as_test(self.test)

    def unused_images(self, data_set: DataSet, root: Path) -> dict[str, int]:
        """Images that are neither normal nor a kind of anomaly, masks excepted."""
        used = {image.path for image in self.images(data_set.class_names, root)}
        used.update(path.relative_to(root).as_posix() for path in image_files(root / self.masks))
        return unused_images(root, used)

    @classmethod
    def recognise(cls, place: Path, stated: Mapping[str, Any]) -> Recognised | None:
        """One training folder that also lies among at least two test folders.

        Raises:
            DataError: none of the test folders is named like the training folder, so that it is open which
                one is normal.
        """
        if not place.is_dir():
            return None
        splits = split_folders(place)
        if splits.train is None or splits.test is None:
            return None
        normal, kinds = class_subfolders(place / splits.train), class_subfolders(place / splits.test)
        if len(normal) != 1 or not kinds or kinds == normal:
            return None
        if str(stated.get("test_normal", normal[0])) not in kinds:
            raise DataError(_which_is_normal(place, splits, normal[0], kinds))
        layout = {"kind": "anomaly_folders", "train": splits.train, "test": splits.test, "normal": normal[0]}
        if splits.validation:
            layout["validation"] = splits.validation
        return Recognised(layout, [normal[0], _ANOMALOUS], dict, minority=_ANOMALOUS)


def _which_is_normal(place: Path, splits: SplitFolders, normal: str, kinds: Sequence[str]) -> str:
    found = (
        f"{place}: {splits.train}/ holds one folder, {normal}, and {splits.test}/ holds {', '.join(kinds)}"
    )
    if len(kinds) == 1:
        return (
            f"{found}. Normal and anomalous test images are needed: put normal ones into "
            f"{splits.test}/{normal}."
        )
    likely = next((kind for kind in kinds if kind.lower() in _NORMAL_NAMES), kinds[0])
    # Overrides are read as YAML, to which 007 and true are no text.
    as_yaml = likely if str(parse_yaml(likely)) == likely else f'"{likely}"'
    return (
        f"{found}, none of them named {normal}. If {splits.train}/{normal} holds normal images, say which "
        f"folder of {splits.test}/ does so as well; the others are then kinds of anomalies: "
        f"-o {shlex.quote(f'layout.test_normal={as_yaml}')}. If all are classes, put training images of each "
        f"class into {splits.train}/."
    )


def _masks_by_stem(folder: Path) -> dict[str, Path]:
    """File name without its ending → mask; the folder may be missing, as it is for unlabelled kinds."""
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.iterdir() if is_image_name(path.name) and not is_junk(path.name))
    return {path.stem: path for path in reversed(files)}


def _dealt_out(total: int, sizes: Counter[str]) -> dict[str, int]:
    """``total`` divided in proportion to ``sizes`` by largest remainders; no kind gets more than it has."""
    available = sum(sizes.values())
    total = min(total, available)
    exact = {kind: total * size / max(available, 1) for kind, size in sizes.items()}
    dealt = {kind: int(share) for kind, share in exact.items()}
    by_remainder = sorted(exact, key=lambda kind: (dealt[kind] - exact[kind], kind))
    for kind in by_remainder[: total - sum(dealt.values())]:
        dealt[kind] += 1
    return dealt
