"""What the ensemble's answers mean in use: triage on the judged rows, and figures at the expected share."""

from __future__ import annotations

from typing import Any

import numpy as np

from ensemble.threshold_rule import parse_rule
from evaluation.expected import figures_at, rate_of
from evaluation.triage import triage_curve, triage_figures
from workflow.ensembling.measuring import ENSEMBLE_ROW, Repeat
from workflow.run.state import Run

EXAMPLE_SHARE = 0.01
"""Shown beside shares that few who look for something rare will meet, and where nobody stated one."""

_COMMON = 0.1
_ALIKE = 2.0
"""Shares that differ by a smaller factor are not shown side by side."""


def measure_in_use(run: Run, repeat: Repeat) -> dict[str, Any]:
    """Triage and figures per 1,000 images, of the shipped ensemble on the rows that it is judged on.

    Args:
        run: whose.
        repeat: its ensemble and the judged rows; of several repeats the first.

    Returns:
        ``{triage, in_use}``. ``triage`` holds the ``levels``, what
        :func:`evaluation.triage.triage_figures` counts, and the ``curve`` of misses against share reviewed.
        ``in_use`` holds ``stated`` (whether somebody said how rare the minority is in use), the ``costs`` or
        None, and ``figures``, one of :func:`evaluation.expected.figures_at` for each share.
    """
    fitted, judged = repeat[0][ENSEMBLE_ROW], repeat[1]
    minority = len(judged.class_names) - 1
    is_minority, groups = judged.labels == minority, judged.groups
    share = _share(run.prior)
    _, levels = fitted.conformal_minority
    p_normal, p_minority = fitted.p_normal(judged.scores), fitted.p_minority(judged.scores)
    flagged = fitted.decide(judged.scores) == minority
    recall, alarms = (rate_of(flagged[mask], groups[mask]) for mask in (is_minority, ~is_minority))
    costs = parse_rule(run.config.recipe.threshold).costs
    spec = run.config.spec
    stated = spec.deployment_prior is not None or bool(spec.deployment_shares)
    return {
        "triage": {
            "levels": levels.to_json(),
            **triage_figures(fitted.triage(judged.scores), is_minority, groups, share),
            "curve": triage_curve(p_normal, p_minority, is_minority, groups, share),
        },
        "in_use": {
            "stated": stated,
            "costs": None if costs is None else list(costs),
            "figures": [figures_at(each, recall, alarms, costs) for each in _shares(share, stated)],
        },
    }


def _share(prior: float | tuple[float, ...]) -> float:
    return prior if isinstance(prior, float) else prior[-1]


def _shares(prior: float, stated: bool) -> list[float]:
    """The stated share, or that in training; and 1 in 100, unless a share below 1 in 10 was stated."""
    if (stated and prior < _COMMON) or abs(np.log(prior / EXAMPLE_SHARE)) < np.log(_ALIKE):
        return [prior]
    return [prior, EXAMPLE_SHARE]
