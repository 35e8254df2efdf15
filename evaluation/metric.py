"""What a metric is: a name, words for people, a direction, and a formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from evaluation.rows import Float64Array
from evaluation.sums import Sums

Classes = Literal["two", "more", "any"]


@dataclass(frozen=True)
class Metric:
    """One column of the results table, in every form: terminal, Markdown, page, model card, JSON.

    Attributes:
        name: key in JSON, Parquet and on the command line.
        title: as a sentence or a wide table names it.
        short: heading where columns are narrow, 12 characters at most.
        order: columns stand in rising order; narrow terminals show the first ones only.
        higher_is_better: direction, for arrows and verdicts.
        classes: for tables of ``two`` classes, of ``more``, or of ``any`` number.
        explanation: one sentence for the reader of a page.
        compute: sums of B weightings → ``[B]`` values.
    """

    name: str
    title: str
    short: str
    order: int
    higher_is_better: bool
    classes: Classes
    explanation: str
    compute: Callable[[Sums], Float64Array]

    @property
    def title_with_direction(self) -> str:
        """The title, with a remark where lower is better: most readers expect the opposite."""
        return self.title if self.higher_is_better else f"{self.title} (lower is better)"

    def is_for(self, n_classes: int) -> bool:
        """Whether tables of ``n_classes`` classes show it."""
        return self.classes == "any" or (self.classes == "two") == (n_classes == 2)
