"""What a data set is: layout, classes, which one is the minority, and how it is split.

A spec is a YAML file in ``imagedata/catalogue`` or of the user's own; every key can be overridden
with ``-o key=value``. Nothing here touches an image.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from contracts.errors import UsageError, nearest_match
from imagedata.decoding.region import Box, Region
from imagedata.layouts.listed_image import ListedImage
from imagedata.layouts.registry import Layout
from imagedata.settings import Settings


class MinorityCopies(Settings):
    """Changed copies of the minority's training images, made once before training.

    They follow their source everywhere: a member learns from a copy where it learns from its source, and
    no copy is ever scored or counted. Which changes are safe depends on the data: a shift can push a small
    defect out of the picture, a flip changes what left and right mean. The numbers are those of the
    ``augment`` setting of a whole CNN, which changes an image each time it is drawn; a head on a frozen
    backbone can have changed images in this way only.

    Attributes:
        copies: of each image.
        total: of all images together, dealt out evenly; takes the place of ``copies``.
        flips: which mirror images are the same thing; ``none`` where left and right matter.
        rotation: up to this many degrees either way.
        zoom: scale between 1 - zoom and 1 + zoom.
        shift: up to this share of the side, in both directions.
        shear: up to this tangent of the shearing angle, either way.
        erasing: probability that a random rectangle (2 to 33 % of the area) is blanked.
    """

    copies: int | None = Field(default=None, ge=1, le=1000)
    total: int | None = Field(default=None, ge=1, le=1_000_000)
    flips: Literal["none", "horizontal", "both"] = "horizontal"
    rotation: float = Field(default=20.0, ge=0.0, le=180.0)
    zoom: float = Field(default=0.15, ge=0.0, le=0.5)
    shift: float = Field(default=0.2, ge=0.0, le=0.5)
    shear: float = Field(default=0.15, ge=0.0, le=1.0)
    erasing: float = Field(default=0.0, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _one_number_and_a_change(self) -> Self:
        if self.copies is not None and self.total is not None:
            raise ValueError(
                f"copies={self.copies} and total={self.total} say twice how many there are to be; give one"
            )
        if self.copies is None and self.total is None:
            raise ValueError("it does not say how many; give copies (of each image) or total (of all)")
        if all(value in {0.0, "none"} for value in self.changes().values()):
            raise ValueError(
                "every copy would equal its source; give one of flips, rotation, zoom, shift, shear, erasing"
            )
        return self

    def changes(self) -> dict[str, str | float]:
        """Change → how far; 0 or ``none`` where it is off."""
        return self.model_dump(exclude={"copies", "total"})


def _kind_of_prior(value: object) -> str:
    return "word[test]" if isinstance(value, str) else "share[number]"


# The tags hold a bracket, as pydantic's own names of types do, so that messages leave them out.
DeploymentPrior = Annotated[
    Annotated[float, Field(gt=0.0, lt=1.0), Tag("share[number]")]
    | Annotated[Literal["test"], Tag("word[test]")],
    Discriminator(_kind_of_prior),
]
"""Share of the minority, or ``test`` for the test set's class shares."""


class DataSpec(Settings):
    """A data set by name.

    Attributes:
        name: identifier, also the name of its run folder.
        title: one line for people.
        source: where users get it.
        licence: as its owner states it.
        tree: what must lie below the data directory, one line per entry; shown where the set is missing.
            Empty where the layout says it well enough.
        layout: where the images lie.
        classes: class names; the order of the majority classes is kept, the minority is moved to the end.
        minority: the minority class.
        imbalance: ``minority:majority`` ratio to make in the training rows by dropping minority rows,
            such as ``1:23`` or ``586:9192``; None leaves them as they are.
        train_counts: class → number of training rows to keep at most, seeded; 0 for the minority alone.
            Given for the minority it takes the place of ``imbalance``.
        test_per_class: rows of each class to hold out; only where the layout has no test folder.
        test_share: share of each class to hold out where ``test_per_class`` is not given; only where the
            layout has no test folder. None holds out 20 % where the minority has at least 100 independent
            images, counted by groups among the usable ones before any are dropped, and else nothing: so few
            are worth more in training, and figures are cross-validated.
        deployment_prior: share of the minority where the model will work; ``test`` states that classes are
            mixed there as in the test set. None means as in training. With more than two classes the others
            share the rest as they do in training.
        deployment_shares: class → its share where the model will work, for more than two classes; takes the
            place of ``deployment_prior``.
        group: regular expression with one group, searched in the relative path; or a number that says
            which folder of the relative path it is, 1 for the first and -1 for the one that holds the image.
            Rows of equal groups (patient, lot) never part. None means every image stands for itself, unless
            a list or table names groups in a column.
        keep_share: share of each class's usable images that is kept, drawn by a seeded hash of the files'
            bytes before anything else is; None keeps all.
        near_duplicates: file of near copies that ``check`` wrote; they are then treated like equal files, as
            :mod:`imagedata.near_duplicates` says. None compares bytes only.
        corrections: file of corrected labels that ``audit`` wrote; None takes ``RUNS/corrections/NAME.csv``
            where there is one. See :mod:`imagedata.audit.corrections`.
        window: grey values that become black and white in 16-bit images.
        scaled_jpeg: reduce large JPEGs while they are decoded, in training and in scoring by the exported
            file; several times as fast, pixels differ slightly (see :mod:`imagedata.decoding.decode`).
        unlabelled: nobody knows which images are of the minority. Whatever label the layout gives an image,
            it counts as one of the majority, some of which may be wrong.
        augment_minority: changed copies of the minority's training images for the supervised members to
            learn from as well, all but the calibrated baseline; None makes none.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    source: str = ""
    licence: str = ""
    tree: list[str] = Field(default_factory=list)
    layout: Layout
    classes: list[Annotated[str, Field(min_length=1)]] = Field(min_length=2)
    minority: str
    imbalance: str | None = None
    train_counts: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    test_per_class: int | None = Field(default=None, ge=1)
    test_share: float | None = Field(default=None, gt=0.0, lt=1.0)
    deployment_prior: DeploymentPrior | None = None
    deployment_shares: dict[str, Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(default_factory=dict)
    group: str | int | None = None
    keep_share: float | None = Field(default=None, gt=0.0, lt=1.0)
    near_duplicates: str | None = None
    corrections: str | None = None
    window: tuple[float, float] | None = None
    scaled_jpeg: bool = False
    roi: Box | str | None = None
    unlabelled: bool = False
    augment_minority: MinorityCopies | None = None

    @field_validator("imbalance")
    @classmethod
    def _ratio_has_two_positive_numbers(cls, value: str | None) -> str | None:
        if value is not None:
            parse_ratio(value)
        return value

    @field_validator("group")
    @classmethod
    def _rule_is_a_regular_expression_with_a_group(cls, value: str | int | None) -> str | int | None:
        if value == 0:
            raise ValueError("folders are counted from 1, or from -1 beginning at the image")
        if isinstance(value, str):
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"it is no regular expression: {error}") from None
            if groups != 1:
                raise ValueError(f"it has {groups} (groups); exactly one names the patient or lot")
        return value

    @field_validator("window")
    @classmethod
    def _window_rises(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"window {list(value)} must rise: [low, high] with low < high")
        return value

    @field_validator("roi", mode="before")
    @classmethod
    def _rectangle_or_path(cls, value: object) -> object:
        shares: object = value
        if isinstance(value, str):
            try:
                shares = [float(part) for part in value.split(",")]
            except ValueError:
                return value  # the path of a mask
        if value is None:
            return None
        if not isinstance(shares, list | tuple) or not all(isinstance(each, int | float) for each in shares):
            raise ValueError("it is a rectangle, left,top,right,bottom, or the path of a mask")
        if len(shares) != 4:
            raise ValueError(f"a rectangle has 4 numbers, left,top,right,bottom; this has {len(shares)}")
        return Region(tuple(float(each) for each in shares)).box  # type: ignore[arg-type]

    @model_validator(mode="after")
    def _classes_fit_together(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes {self.classes} are not distinct")
        if self.minority not in self.classes:
            hint = nearest_match(self.minority, self.classes)
            raise ValueError(f"minority '{self.minority}' is none of the classes {self.classes}.{hint}")
        unknown = sorted(set(self.train_counts) - set(self.classes))
        if unknown:
            raise ValueError(f"train_counts names {unknown}, but the classes are {self.classes}")
        none_left = [name for name, count in self.train_counts.items() if not count]
        if none_left and (none_left != [self.minority] or len(self.classes) > 2):
            raise ValueError(
                f"train_counts: 0 of {none_left[0]}; of two classes the minority alone can have none"
            )
        if self.unlabelled and len(self.classes) > 2:
            raise ValueError(
                "unlabelled: images without labels are normal or not, but there are "
                f"{len(self.classes)} classes"
            )
        self.layout.require_classes(self.classes)
        return self

    @model_validator(mode="after")
    def _groups_by_one_rule(self) -> Self:
        column = self.layout.groups_column
        if column is not None and self.group is not None:
            raise ValueError(
                f"group={self.group!r} and the layout's column of groups '{column}' say the same twice; "
                "give one of them"
            )
        return self

    @model_validator(mode="after")
    def _shares_are_of_every_class(self) -> Self:
        shares = self.deployment_shares
        if not shares:
            return self
        if len(self.classes) == 2:
            raise ValueError("deployment_shares is for more than two classes; give deployment_prior")
        # A set of the catalogue that says 'test' may be given shares; two numbers would be a contradiction.
        if isinstance(self.deployment_prior, float):
            raise ValueError("deployment_prior and deployment_shares say the same twice; give one of them")
        if set(shares) != set(self.classes) or not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
            raise ValueError(
                f"deployment_shares must give each of the classes {self.classes} a share, in sum 1; "
                f"got {shares}"
            )
        return self

    @model_validator(mode="after")
    def _held_out_by_one_rule(self) -> Self:
        place, setting = self.layout.own_test, self.layout.test_setting
        for key in ("test_per_class", "test_share"):
            if place and key in self.model_fields_set and getattr(self, key) is not None:
                advice = "leave it out"
                if setting is not None:
                    advice += f", or draw them from the training images with layout.{setting}=null"
                raise ValueError(f"{key} has no effect, because the test images lie in {place}; {advice}")
        return self

    def find(self, data_dir: Path | None, *, fetch: bool = True) -> Path:
        """The folder that the paths of the data set are relative to.

        Args:
            data_dir: where data sets lie; None finds only what lies at an absolute path or in a package.
            fetch: whether what is missing on this machine may be fetched from a hub.

        Raises:
            DataError: the set is not there; the message shows the expected tree.
        """
        return self.layout.find(self, data_dir, fetch=fetch)

    def list_images(self, root: Path) -> list[ListedImage]:
        """The images, sorted by split and path; none is opened.

        Args:
            root: as :meth:`find` returned it.

        Raises:
            DataError: a class has no image at all, or a table or container is damaged.
        """
        return self.layout.list_images(self, root)

    def expected_tree(self) -> str:
        """The folders and files that the set needs, one per line, indented for a message."""
        return self.layout.expected_tree(self)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names with the minority last; a row's class index points into this."""
        return (*(name for name in self.classes if name != self.minority), self.minority)


def parse_ratio(text: str) -> float:
    """Majority rows per minority row of a ``minority:majority`` ratio.

    Raises:
        UsageError: the text is not two positive numbers with the first the smaller.
    """
    parts = text.split(":")
    try:
        minority, majority = (float(part) for part in parts)
        if not math.isfinite(majority):
            raise ValueError(majority)
    except ValueError:
        raise UsageError(f"imbalance: got '{text}'; write minority:majority, such as 1:23.") from None
    if not 0 < minority <= majority:
        raise UsageError(f"imbalance: got '{text}'; the minority comes first and is the smaller, as in 1:23.")
    return majority / minority
