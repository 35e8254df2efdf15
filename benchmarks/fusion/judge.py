"""Figures of every rule on every problem, and their differences with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.few_labels.digests import digest_of_code, digest_of_tables
from benchmarks.few_labels.tables import Problem
from benchmarks.fusion.rules import BEST_MEMBER, Rule
from contracts.errors import OutnumberedError
from contracts.files import digest_of, read_json, write_json
from contracts.scores import ScoreTable
from ensemble.prior import shift_logit
from evaluation.metrics.brier import METRIC as BRIER
from evaluation.metrics.ece import METRIC as ECE
from evaluation.rows import Rows
from evaluation.sums import WeightedRows

SOLVED = 1e-3
"""Least ranking error: the logarithm of smaller ones would outweigh everything else."""
_SOURCES = ("ensemble", "benchmarks/fusion")


@dataclass(frozen=True)
class Figures:
    """Of one rule on the rows that a problem is judged on.

    Attributes:
        auroc: of the logits.
        average_precision: of the logits.
        ece: at the judged rows' own minority share; None for the best member, which is chosen by AUROC.
        brier: likewise.
        log_error: natural logarithm of 1 - AUROC, of :data:`SOLVED` at least.
    """

    auroc: float
    average_precision: float
    log_error: float
    ece: float | None = None
    brier: float | None = None


def ranking_figures_of(labels: npt.NDArray[np.int64], logits: npt.NDArray[np.floating]) -> Figures:
    """AUROC, average precision and the logarithm of the ranking error."""
    auroc = float(roc_auc_score(labels, logits))
    log_error = float(np.log(max(1.0 - auroc, SOLVED)))
    return Figures(auroc, float(average_precision_score(labels, logits)), log_error)


def figures_of(rule: Rule, oof: ScoreTable, test: ScoreTable) -> Figures:
    """Fit a rule on the out-of-fold table and judge it on the other."""
    logits = rule.fit(oof).calibrated_logit(test.scores)
    ranked = ranking_figures_of(test.labels, logits)
    trained, judged = (float((table.labels == 1).mean()) for table in (oof, test))
    p = expit(shift_logit(logits, trained, judged))
    decision = (p >= 0.5).astype(np.int64)
    sums = WeightedRows.once(Rows.checked(test.labels, np.stack([1.0 - p, p], axis=1), decision))
    ece, brier = (float(np.squeeze(metric.compute(sums))) for metric in (ECE, BRIER))
    return Figures(ranked.auroc, ranked.average_precision, ranked.log_error, ece, brier)


def best_member(test: ScoreTable) -> Figures:
    """The member with the largest AUROC on the judged rows: an oracle, which no rule can know."""
    each = [ranking_figures_of(test.labels, column) for column in test.scores.T]
    return max(each, key=lambda figures: figures.auroc)


def judge(
    problems: Sequence[Problem],
    rules: Mapping[str, Rule],
    cache: Path,
    on_problem: Callable[[], None] = lambda: None,
) -> dict[str, list[Figures]]:
    """Rule → its figures, problem by problem; the best member is one of the rules.

    Figures are kept by the tables and by the code that made them, so that a rule that changed, or a new
    problem, is all that is computed again.

    Args:
        problems: with at least one label.
        rules: by name.
        cache: folder of figures.
        on_problem: called once per problem.

    Raises:
        OutnumberedError: a rule cannot be fitted; says which, on what.
    """
    code = digest_of_code(*_SOURCES)
    judged: dict[str, list[Figures]] = {name: [] for name in (*rules, BEST_MEMBER)}
    for problem in problems:
        path = cache / f"{problem.name}.json"
        tables = digest_of_tables((problem.oof, problem.test))
        known: dict[str, Any] = read_json(path) if path.exists() else {}
        made = dict(known)
        for name, rule in rules.items():
            key = digest_of([tables, code if rule.version is None else rule.version])
            if made.get(name, {}).get("key") != key:
                try:
                    figures = figures_of(rule, problem.oof, problem.test)
                except OutnumberedError as error:
                    raise type(error)(f"rule '{name}' on {problem.name}: {error}") from error
                made[name] = {"key": key, "figures": asdict(figures)}
            judged[name].append(Figures(**made[name]["figures"]))
        if made != known:
            write_json(path, made)
        judged[BEST_MEMBER].append(best_member(problem.test))
        on_problem()
    return judged
