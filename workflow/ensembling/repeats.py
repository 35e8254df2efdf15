"""Which repeats of the cross-fitting the shipped ensemble is made of; decided on out-of-fold rows alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ensemble.out_of_fold import HIGHER_IS_BETTER, out_of_fold_figure
from ensemble.pipeline import fit_ensemble
from workflow.run.state import Run


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


def select_repeats(run: Run) -> Selection:
    """Select by the recipe's rule.

    A repeat is taken whole, with all its members: their scores are cross-fitted on the same folds, which the
    stacker relies on.
    """
    recipe = run.config.recipe
    n_repeats = run.data.n_repeats
    everything = tuple(range(n_repeats))
    if n_repeats == 1 or recipe.select == "first":
        sentence = f"Made of the first of {n_repeats} repeats." if n_repeats > 1 else ""
        if sentence and run.measured == "cross_validation":
            sentence = f"Made of the first of {n_repeats} repeats; all of them serve to measure."
        return Selection(recipe.select, (0,), sentence=sentence)
    if recipe.select == "vote":
        sentence = f"A member's score is the mean over {n_repeats} repeats."
        return Selection(recipe.select, everything, sentence=sentence)
    figures = []
    for repeat in everything:
        oof, _ = run.tables_of([repeat])
        fitted = fit_ensemble(
            oof,
            deployment_prior=run.prior,
            threshold_rule=recipe.threshold,
            seed=run.config.seed,
            unseen=run.unseen,
        )
        figures.append(out_of_fold_figure(oof, fitted, recipe.select_by))
    choose = max if HIGHER_IS_BETTER[recipe.select_by] else min
    # index gives ties to the first repeat.
    best = figures.index(choose(figures))
    sentence = (
        f"Made of repeat {best + 1} of {n_repeats}, whose out-of-fold {recipe.select_by} is best: "
        f"{', '.join(f'{figure:.4f}' for figure in figures)}."
    )
    return Selection(recipe.select, (best,), tuple(figures), sentence)
