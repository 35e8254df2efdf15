"""What every layout can do: find its files, list its images, and hand them out as files to work on.

A layout says where the images of a data set lie and what tells their labels. Each is a settings model, so
that a YAML spec can state it, and has a file of its own; :mod:`imagedata.layouts.registry` names them all.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from pydantic import Field

from contracts.errors import DataError
from imagedata.decoding.formats import IMAGE_SUFFIXES
from imagedata.file_names import of_other_endings
from imagedata.layouts.listed_image import ListedImage, Split
from imagedata.layouts.materialiser import Materialiser
from imagedata.layouts.walk import images_of_other_endings, matching_paths
from imagedata.settings import Settings

_MOST_CLASSES = 1000


class DataSet(Protocol):
    """What a layout needs to know of the data set around it; :class:`imagedata.spec.DataSpec` is one."""

    @property
    def name(self) -> str:
        """Name of the data set, for messages and folders."""

    @property
    def source(self) -> str:
        """Where users get it; may be empty."""

    @property
    def tree(self) -> list[str]:
        """What its owner lets us expect below the data directory, one line per entry; may be empty."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names, the minority last."""

    @property
    def unlabelled(self) -> bool:
        """Whether labels are unknown."""

    @property
    def window(self) -> tuple[float, float] | None:
        """Grey values of deep images that become black and white."""


class Moves(NamedTuple):
    """How many held-out anomalies are moved into training.

    Attributes:
        wanted: kind of anomaly → number of images.
        rule: the setting that says so, as written after ``-o``.
    """

    wanted: dict[str, int]
    rule: str


@dataclass(frozen=True)
class Recognised:
    """What a layout makes of a folder or file that comes without a spec.

    Attributes:
        layout: keys of the layout.
        classes: class names; one where there are normal images only, none where there are no labels.
        count: counts the images of each class; called only where the user names no minority.
        minority: the minority, where the layout itself tells it.
        question: why a single class may not be normal, and what to say if it is; empty where nothing
            stands against it.
    """

    layout: dict[str, Any]
    classes: list[str]
    count: Callable[[], dict[str, int]]
    minority: str | None = None
    question: str = ""


class BaseLayout(Settings, ABC):
    """Base of all layouts.

    Attributes:
        kind: which layout this is; each subclass fixes it to one word.
        roots: folders below the data directory that may hold the set; the first that does is taken. An
            absolute one is taken as it is.
    """

    kind: str
    roots: list[str] = Field(default_factory=lambda: ["."])

    is_table: ClassVar[bool] = False
    """A table names the files. Where it lies is checked again whenever a run is loaded."""

    test_setting: ClassVar[str | None] = "test"
    """The setting that is null where test images are to be drawn from the training images."""

    # ---- what a subclass must say

    @abstractmethod
    def needed_paths(self, class_names: Sequence[str]) -> list[str]:
        """Paths below the root, perhaps with ``*``, that must exist for the set to be there."""

    @abstractmethod
    def images(self, class_names: Sequence[str], root: Path) -> Iterator[ListedImage]:
        """The images of some classes in any order, by the paths that they have once materialised.

        Args:
            class_names: the minority last.
            root: as :meth:`find` returned it.
        """

    @abstractmethod
    def places(self, class_name: str, splits: set[Split]) -> list[tuple[Split, str]]:
        """Where images of a class must lie, as ``(split, path below the root)``.

        Args:
            class_name: the class.
            splits: splits in which any image was listed.
        """

    # ---- what a subclass may say

    @property
    def groups_column(self) -> str | None:
        """Column in which the set itself names groups (patients, lots); None where it has none."""
        return None

    @property
    def own_test(self) -> str | None:
        """Where the test images lie that the set brings, in words; None where they are drawn."""
        return None

    @property
    def names_its_place(self) -> bool:
        """Whether the layout alone tells where its files lie, without a data directory."""
        return False

    @property
    def writes_images(self) -> bool:
        """Whether the images are written out as files of our own before anything reads them."""
        return False

    def folders(self, class_names: Sequence[str], root: Path) -> Iterator[Path]:
        """The folders that are searched for images; none where a table or a container names them.

        Args:
            class_names: the minority last.
            root: as :meth:`find` returned it.
        """
        del class_names, root
        return iter(())

    def require_classes(self, classes: Sequence[str]) -> None:
        """Check that the layout knows all classes of the data set.

        Raises:
            ValueError: it does not.
        """

    def anomalies_to_move(self, held_out: Counter[str]) -> Moves | None:
        """How many held-out anomalies go into training; None where the training images have some.

        Args:
            held_out: kind of anomaly → number of test images.
        """
        del held_out
        return None

    def materialiser(self, data_set: DataSet, source: Path, below: Path) -> Materialiser:
        """What turns the listed images into files that can be read.

        Args:
            data_set: the data set.
            source: as :meth:`find` returned it.
            below: folder for files of our own.
        """
        del data_set, below
        return Materialiser(source)

    def reading_notes(self, data_set: DataSet, root: Path) -> list[str]:
        """What a user should know about how the data set was read, in whole sentences.

        Args:
            data_set: the data set.
            root: as :meth:`find` returned it.
        """
        del data_set, root
        return []

    def may_lack_the_minority(self, data_set: DataSet, root: Path) -> bool:
        """Whether a minority without images can be meant, and is no slip in the names of classes or labels.

        Args:
            data_set: the data set.
            root: as :meth:`find` returned it.
        """
        del data_set, root
        return False

    def unused_images(self, data_set: DataSet, root: Path) -> dict[str, int]:
        """Images that lie in the tree of the data set and that no class or split takes, by folder.

        Args:
            data_set: the data set.
            root: as :meth:`find` returned it; holds this data set and nothing else.
        """
        del data_set, root
        return {}

    @classmethod
    def recognise(cls, place: Path, stated: Mapping[str, Any]) -> Recognised | None:
        """What this layout makes of a folder or file of the user's own; None where it is another layout's.

        Args:
            place: the folder or file.
            stated: keys of the layout that the user states and that take precedence over a guess.

        Raises:
            DataError: it is of this layout, and damaged.
        """
        del place, stated
        return None

    # ---- finding

    def find(self, data_set: DataSet, data_dir: Path | None, *, fetch: bool = True) -> Path:
        """The folder that the paths of the data set are relative to.

        Args:
            data_set: the data set.
            data_dir: where data sets lie; None finds only what lies at an absolute path or in a package.
            fetch: whether what is missing on this machine may be fetched from a hub.

        Raises:
            DataError: no candidate holds the set; the message shows the expected tree.
        """
        del fetch
        if data_dir is None:
            candidates = [Path(root) for root in self.roots if Path(root).is_absolute()]
        else:
            candidates = [data_dir / root for root in self.roots]  # an absolute root stays as it is
        needed = self.needed_paths(data_set.class_names)
        missing_of = {
            candidate: [path for path in needed if not self.holds(candidate, path)]
            for candidate in candidates
        }
        for candidate, missing in missing_of.items():
            if not missing:
                return candidate
        get_it = f"Get it from {data_set.source or 'its owner'}"
        for candidate, missing in missing_of.items():
            if len(missing) < len(needed):  # this is the folder that the user meant
                raise DataError(
                    f"{data_set.name}: {candidate} lacks {', '.join(missing)}. {get_it}. "
                    f"Expected:\n{self.expected_tree(data_set)}"
                )
        if data_dir is None:
            where = f"not found in {_listed(candidates)}" if candidates else "no data directory given"
            raise DataError(
                f"{data_set.name}: {where}. Use --data DIR or set OUTNUMBERED_DATA. {get_it}. "
                f"Expected below DIR:\n{self.expected_tree(data_set)}"
            )
        raise DataError(
            f"{data_set.name}: not found in {_listed(candidates)}. {get_it}. "
            f"Expected:\n{self.expected_tree(data_set)}"
        )

    def holds(self, root: Path, path: str) -> bool:
        """Whether a needed path, or one that its parts with ``*`` stand for, exists below a root."""
        return next(matching_paths(root, path), None) is not None

    def expected_tree(self, data_set: DataSet) -> str:
        """The folders and files that the set needs, one per line, indented for a message."""
        shown = data_set.tree or [self.shown_path(path) for path in self.needed_paths(data_set.class_names)]
        return "\n".join(f"  {line}" for line in shown)

    def shown_path(self, path: str) -> str:
        """A needed path as it is shown to users, from the data directory on."""
        return path if self.roots[0] == "." else f"{self.roots[0]}/{path}"

    # ---- listing

    def images_of_other_endings(self, data_set: DataSet, root: Path) -> dict[str, int]:
        """Count the images that are passed over because their names do not end like images.

        Args:
            data_set: the data set.
            root: as :meth:`find` returned it.

        Returns:
            Ending → number of files whose first bytes are those of an image.
        """
        found: Counter[str] = Counter()
        for folder in self.folders(data_set.class_names, root):
            found += images_of_other_endings(folder)
        return dict(sorted(found.items()))

    def list_images(self, data_set: DataSet, root: Path) -> list[ListedImage]:
        """List the images of the data set, sorted by split and path; no image is opened.

        Args:
            data_set: the data set.
            root: as :meth:`find` returned it.

        Raises:
            DataError: a class has no image at all, or a table or container is damaged. Of two classes the
                minority may have none where that can be meant, unless its files have an ending that is not
                read.
        """
        listed = list(self.images(data_set.class_names, root))
        present = {(image.split, image.label) for image in listed}
        splits = {image.split for image in listed}
        for name in data_set.class_names:
            for split, place in self.places(name, splits):
                if (split, name) not in present:
                    others = self.images_of_other_endings(data_set, root)
                    is_minority = len(data_set.class_names) == 2 and name == data_set.class_names[-1]
                    if is_minority and not others and self.may_lack_the_minority(data_set, root):
                        continue
                    raise DataError(
                        f"{data_set.name}: class {name} has no images in {root / place}"
                        f"{f', but {of_other_endings(others)}' if others else ''}. Put some there "
                        f"({', '.join(sorted(IMAGE_SUFFIXES))}) or name other classes with -o classes=[...]."
                    )
        return sorted(listed, key=lambda image: (image.split, image.path))


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(dict.fromkeys(map(str, paths)))


def require_folder_name(name: str) -> None:
    """Check that a class name can be the folder that its images are written to.

    Raises:
        ValueError: it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", name):
        raise ValueError(f"class '{name}' cannot name a folder; use letters, digits, space, . _ -")


def require_some_classes(place: Path, labels: Collection[str]) -> None:
    """Check the number of distinct labels that a container or table holds.

    Raises:
        DataError: fewer than two, or so many that they can hardly be classes.
    """
    if not 2 <= len(labels) <= _MOST_CLASSES:
        shown = ", ".join(sorted(labels)[:3])
        raise DataError(
            f"{place}: two classes are needed, and at most {_MOST_CLASSES}; got {len(labels)} labels "
            f"({shown}). Name the column of labels in a YAML spec, with layout.label_column or layout.label."
        )
