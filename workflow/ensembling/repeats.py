"""Which repeats of the cross-fitting the shipped ensemble is made of; decided on out-of-fold rows alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ensemble.pipeline import fit_ensemble
from ensemble.stacking.repeat_choice import HIGHER_IS_BETTER, out_of_fold_figure
from workflow.run.fits import Fit, FitResult
from workflow.run.prepared import PreparedData
from workflow.run.score_tables import score_tables
from workflow.run.summary import deployment_prior
from workflow.settings.config import RunConfig
from workflow.settings.recipe import Recipe


@dataclass(frozen=True)
class Selection:
    """Repeats that the ensemble is made of.

    Attributes:
        rule: the recipe's ``select``.
        repeats: from 0; more than one where they vote.
        figures: the out-of-fold figure of each repeat of the run, where ``best`` compared them.
        sentence: for people; empty where the run has one repeat.
    """

    rule: str
    repeats: tuple[int, ...]
    figures: tuple[float, ...] = ()
    sentence: str = ""

    def to_json(self) -> dict[str, Any]:
        """As kept in the ensemble's document."""
        return {"select": self.rule, "repeats": list(self.repeats), "figures": list(self.figures)}


def fits_to_select_from(recipe: Recipe, fits: list[Fit]) -> list[Fit]:
    """Fits that the ensemble depends on: those of the first repeat where the recipe selects the first."""
    return [fit for fit in fits if fit.repeat == 0] if recipe.select == "first" else fits


def select_repeats(
    config: RunConfig, data: PreparedData, results: dict[Fit, FitResult], left_out: dict[str, str]
) -> Selection:
    """Select by the recipe's rule.

    A repeat is taken whole, all members of it: their scores are cross-fitted on the same folds, which the
    stacker relies on.

    Args:
        config: the run.
        data: its rows.
        results: of the fits of :func:`fits_to_select_from`.
        left_out: members without a part in it.
    """
    recipe = config.recipe
    everything = tuple(range(recipe.repeats))
    if recipe.repeats == 1 or recipe.select == "first":
        sentence = f"Made of the first of {recipe.repeats} repeats." if recipe.repeats > 1 else ""
        return Selection(recipe.select, (0,), sentence=sentence)
    if recipe.select == "vote":
        sentence = f"A member's score is the mean over {recipe.repeats} repeats."
        return Selection(recipe.select, everything, sentence=sentence)
    figures = []
    for repeat in everything:
        oof, _ = score_tables(data, results, left_out, [repeat])
        fitted = fit_ensemble(
            oof,
            deployment_prior=deployment_prior(config, data),
            threshold_rule=recipe.threshold,
            seed=config.seed,
        )
        figures.append(out_of_fold_figure(oof, fitted, recipe.select_by))
    choose = max if HIGHER_IS_BETTER[recipe.select_by] else min
    best = figures.index(choose(figures))
    sentence = (
        f"Made of repeat {best + 1} of {recipe.repeats}, whose out-of-fold {recipe.select_by} is best: "
        f"{', '.join(f'{figure:.4f}' for figure in figures)}."
    )
    return Selection(recipe.select, (best,), tuple(figures), sentence)
