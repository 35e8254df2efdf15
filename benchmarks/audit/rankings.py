"""The audit's ranking beside others, on the same out-of-fold scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.audit.problems import Flipped
from ensemble.out_of_fold import judging_probabilities
from ensemble.pipeline import fit_ensemble
from evaluation.label_audit import NEIGHBOURS, neighbour_shares, suspicions_of
from evaluation.rows import Float64Array

AUDIT = "audit"

WHAT = {
    AUDIT: "what `audit` does: log-odds of the calibrated ensemble, out of fold, against the label, half way "
    "between the rows' class shares and equal ones; and half of the log-odds of the 10 most similar images",
    "rows' shares": "the same, beginning at the rows' class shares",
    "ensemble alone": "log-odds of the ensemble (self-confidence)",
    "members' mean": "mean of the members' own calibrated log-odds",
    "similar images alone": "the share of the label among the 10 most similar images of other groups",
    "equal shares": "as the ensemble alone, for classes of equal shares",
    "class thresholds": "probability of each class over the mean of those who carry its label, as in "
    "confident learning",
}
"""Name of a ranking → what it is."""


def rankings_of(problem: Flipped) -> dict[str, Float64Array]:
    """Name → ``[N]`` suspicion, higher first."""
    table, labels = problem.oof, problem.oof.labels
    n_classes = len(table.class_names)
    rows = np.arange(len(labels))
    p = judging_probabilities(table, fit_ensemble(table).method)
    members = [judging_probabilities(table, f"single:{name}") for name in table.member_names]
    near = neighbour_shares(problem.vectors, labels, table.groups, n_classes)
    shares = np.bincount(labels, minlength=n_classes) / len(labels)
    of_class = np.array([p[labels == k, k].mean() for k in range(n_classes)])

    def against(support: Float64Array) -> Float64Array:
        others = support.copy()
        others[rows, labels] = -np.inf
        return np.asarray(others.max(axis=1) - support[rows, labels])

    log: Callable[[Float64Array], Float64Array] = lambda each: np.log(np.clip(each, 1e-6, 1.0))  # noqa: E731
    return {
        AUDIT: suspicions_of(labels, p, members, near).score,
        "rows' shares": against(log(p) + 0.5 * np.log(near * NEIGHBOURS + 0.5)),
        "ensemble alone": against(log(p)),
        "members' mean": against(np.mean([log(each) for each in members], axis=0)),
        "similar images alone": against(near),
        "equal shares": against(log(p) - np.log(shares)),
        "class thresholds": against(p / of_class),
    }
