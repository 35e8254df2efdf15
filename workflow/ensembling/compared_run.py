"""A trained run with every row of its results table fitted again, in seconds, from cached results."""

from __future__ import annotations

from functools import cached_property
from typing import Self

from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from workflow.ensembling.measuring import Repeat, judged_repeats
from workflow.run.fits import Fit
from workflow.run.state import Run


class ComparedRun(Run):
    """A run as ``compare`` and ``report`` look at it: all repeats, and all rows of the table.

    The ensemble that is shipped is made of the repeats that the recipe selects. A comparison is about every
    repeat, so here :attr:`fits` are all of them, and :attr:`oof` and :attr:`test` are of the first.
    """

    @property
    def fits(self) -> list[Fit]:
        """The fits of all repeats."""
        return self.every_fit

    @cached_property
    def repeats(self) -> tuple[int, ...]:
        """The repeat that :attr:`oof` and :attr:`test` are of."""
        return (0,)

    @property
    def comparison_key(self) -> str:
        """Digest of everything that a comparison depends on."""
        return self.key_of(self.every_fit)

    @cached_property
    def fitted_repeats(self) -> list[Repeat]:
        """Each repeat's fitted rows of the results table, beside the scores of the rows it is judged on.

        Raises:
            ModelError: nothing is trained, members are missing, or the calibrated baseline collapsed.
            DataError: rows do not suffice for calibration or threshold.
        """
        return judged_repeats(self)

    @property
    def judged(self) -> ScoreTable:
        """The rows that figures stand on, with the first repeat's scores."""
        return self.fitted_repeats[0][1]

    @property
    def fitted_rows(self) -> dict[str, FittedEnsemble]:
        """Row of the results table → how it gets from the scores of :attr:`judged` to decisions."""
        return self.fitted_repeats[0][0]

    def fit(self) -> Self:
        """Fit now, so that what is missing is said before anything else; returns the run itself.

        Raises:
            ModelError, DataError: as :attr:`fitted_repeats`.
        """
        _ = self.fitted_repeats
        return self
