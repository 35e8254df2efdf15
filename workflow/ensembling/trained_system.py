"""What an exported file is made of, and its members brought back from the fits' results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from contracts.scores import ScoreTable
from ensemble.fitted import FittedEnsemble
from workflow.run.fits import FINAL, Fit, FitResult
from workflow.run.prepared import PreparedData
from workflow.settings.config import RunConfig
from workflow.settings.registry import build_member

if TYPE_CHECKING:
    from contracts.member import Member


class TrainedSystem(Protocol):
    """A :class:`workflow.run.state.Run`, or a trained student.

    Attributes:
        config: the settings it was trained with.
        data: its rows.
        results: its fits' results; the final ones hold the members' fitted states.
        fitted: from members' scores to probabilities and decisions.
        test: its scores of the test set, which the file has to repeat; it may have no rows.
        rows: the results table; the row of the model, or of the ensemble in it, goes into the metadata.
        repeats: the repeats whose final members the file holds; it averages several.
    """

    @property
    def config(self) -> RunConfig: ...  # noqa: D102
    @property
    def data(self) -> PreparedData: ...  # noqa: D102
    @property
    def results(self) -> dict[Fit, FitResult]: ...  # noqa: D102
    @property
    def fitted(self) -> FittedEnsemble: ...  # noqa: D102
    @property
    def test(self) -> ScoreTable: ...  # noqa: D102
    @property
    def rows(self) -> list[dict[str, Any]]: ...  # noqa: D102
    @property
    def repeats(self) -> tuple[int, ...]: ...  # noqa: D102


def final_members(system: TrainedSystem) -> dict[str, tuple[Fit, list[Member]]]:
    """Member → its final fit and its fitted self, once for each repeat; in the order of the columns."""
    finals = {
        (fit.member.name, fit.repeat): (fit, result)
        for fit, result in system.results.items()
        if fit.fold == FINAL
    }
    found = {}
    for name in dict.fromkeys(column.member for column in system.fitted.columns):
        members = []
        for repeat in system.repeats:
            fit, result = finals[name, repeat]
            member = build_member(fit.member.type, fit.member.settings, fit.member.backbone)
            members.append(member.restore(result.state, result.state_meta))
        found[name] = (fit, members)
    return found
