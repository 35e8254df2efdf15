"""The models that a report draws, with their curves: baseline, best single member and ensemble."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from contracts.rows import LabelArray
from ensemble.fitted import FittedEnsemble
from evaluation.curves import curves
from evaluation.multiclass_curves import multiclass_curves
from reporting.content import Model, MulticlassModel, Role
from workflow.ensembling.compared_run import ComparedRun
from workflow.ensembling.measuring import BASELINE_ROW, ENSEMBLE_ROW
from workflow.settings.registry import BASELINE

_BEST_SINGLE = "best_single"


@dataclass(frozen=True)
class _Candidate:
    """A row of the results table; ``p`` ``[N]`` or ``[N, K]`` are its test probabilities."""

    role: Role
    name: str
    row_name: str
    fitted: FittedEnsemble
    p: npt.NDArray[np.float64]


def minority_labels(run: ComparedRun) -> LabelArray:
    """``[N]`` 1 where a test row is of the minority."""
    return np.asarray(run.test.labels == len(run.test.class_names) - 1, dtype=np.int64)


def models(run: ComparedRun) -> list[Model]:
    """Models of two classes with their curves; equal ones appear once, the final last."""
    chosen = _candidates(run)
    prior = run.fitted_rows[ENSEMBLE_ROW].deployment_prior
    drawn = curves(
        minority_labels(run),
        run.test.groups,
        {each.name: each.p for each in chosen},
        prior=prior if isinstance(prior, float) else prior[-1],
        seed=run.config.seed,
        n_replicates=run.config.recipe.bootstrap,
    )
    return [
        Model(each.role, each.name, each.row_name, each.p, each.fitted.binary_threshold, drawn[each.name])
        for each in chosen
    ]


def multiclass_models(run: ComparedRun) -> list[MulticlassModel]:
    """Models of K > 2 classes with their curves; equal ones appear once, the final last."""
    chosen = _candidates(run)
    drawn = multiclass_curves(
        run.test.labels,
        run.test.groups,
        {each.name: each.p for each in chosen},
        seed=run.config.seed,
        n_replicates=run.config.recipe.bootstrap,
    )
    return [
        MulticlassModel(
            each.role,
            each.name,
            each.row_name,
            each.p,
            each.fitted.decide(run.test.scores),
            drawn[each.name],
        )
        for each in chosen
    ]


def _candidates(run: ComparedRun) -> list[_Candidate]:
    """Baseline, best single member and ensemble; those with equal probabilities and threshold are one."""
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
        new = _Candidate(role, name, row_name, fitted, fitted.predict(run.test.scores))
        same = next((each for each in merged if _is_one(each, new)), None)
        if same is not None:
            merged.remove(same)
            new = replace(
                new,
                role="baseline" if same.role == "baseline" else role,
                name=f"{same.name} = {name}",
            )
        merged.append(new)
    return merged


def _is_one(one: _Candidate, other: _Candidate) -> bool:
    return np.array_equal(one.p, other.p) and one.fitted.threshold == other.fitted.threshold
