"""The models that a report draws, with their curves: baseline, best single member and ensemble."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ensemble.fitted import FittedEnsemble
from evaluation.curves import curves
from evaluation.rows import class_probabilities
from reporting.content import Model, Role
from workflow.ensembling.compared_run import ComparedRun
from workflow.ensembling.measuring import BASELINE_ROW, ENSEMBLE_ROW, at_own_shares
from workflow.settings.registry import BASELINE

_BEST_SINGLE = "best_single"


@dataclass(frozen=True)
class _Candidate:
    """A row of the results table; ``p`` ``[N, K]`` are its test probabilities."""

    role: Role
    name: str
    row_name: str
    fitted: FittedEnsemble
    p: npt.NDArray[np.float64]


def models(run: ComparedRun) -> list[Model]:
    """Models with their curves; identical ones appear once, the final one last."""
    chosen = _candidates(run)
    prior = run.fitted_rows[ENSEMBLE_ROW].deployment_prior
    drawn = curves(
        run.judged.labels,
        run.judged.groups,
        {each.name: each.p for each in chosen},
        prior=prior if isinstance(prior, float) else None,
        seed=run.config.seed,
        n_replicates=run.config.recipe.bootstrap,
        p_at_own_shares={each.name: at_own_shares(each.fitted, run.judged) for each in chosen},
    )
    return [
        Model(
            each.role,
            each.name,
            each.row_name,
            each.p,
            each.fitted.decide(run.judged.scores),
            each.fitted.threshold if isinstance(each.fitted.threshold, float) else None,
            drawn[each.name],
        )
        for each in chosen
    ]


def _candidates(run: ComparedRun) -> list[_Candidate]:
    """Baseline, best single member and ensemble; identical ones are merged."""
    best = run.fitted_rows[_BEST_SINGLE]
    used = (best.combination.weights != 0).any(axis=1).tolist()
    best_member = next(c.member for c, is_used in zip(best.columns, used, strict=True) if is_used)
    rows: list[tuple[Role, str, str, str]] = [
        ("baseline", "calibrated baseline", BASELINE_ROW, BASELINE),
        ("best_single", f"best single ({best_member})", _BEST_SINGLE, _BEST_SINGLE),
        ("ensemble", "ensemble", ENSEMBLE_ROW, ENSEMBLE_ROW),
    ]
    merged: list[_Candidate] = []
    for role, name, row_name, key in rows:
        fitted = run.fitted_rows[key]
        p = class_probabilities(fitted.predict(run.judged.scores))
        new = _Candidate(role, name, row_name, fitted, p)
        same = next((each for each in merged if _are_identical(each, new)), None)
        if same is not None:
            # The later of two identical rows takes its place, so that the final model stays last.
            merged.remove(same)
            new = replace(
                new,
                role="baseline" if same.role == "baseline" else role,
                name=f"{same.name} = {name}",
            )
        merged.append(new)
    return merged


def _are_identical(one: _Candidate, other: _Candidate) -> bool:
    return np.array_equal(one.p, other.p) and one.fitted.threshold == other.fitted.threshold
