"""One file of a data set with its label, as listing the data set gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One file of a data set, not opened yet.

    Attributes:
        path: relative to the set's root, with forward slashes.
        label: class name.
        split: ``train`` (the pool that folds and test rows are drawn from) or ``test`` (held out by
            the data set itself).
        group: patient or lot where the data set itself names it; None leaves it to the spec's rule.
        subtype: a finer name than the class where the data set has one, such as the kind of a defect.
        mask: path, relative to the set's root, of the picture that shows where the anomaly is; None where
            there is none.
        listed_label: the class that the data set gives it, where a person corrected that to ``label``; else
            None.
    """

    path: str
    label: str
    split: Split
    group: str | None = None
    subtype: str | None = None
    mask: str | None = None
    listed_label: str | None = None
