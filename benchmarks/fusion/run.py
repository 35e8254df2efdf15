"""From data sets to the page: makes the tables that are missing, judges every rule on all."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.few_labels.sets import sets_named
from benchmarks.few_labels.tables import make_problems, read_problems
from benchmarks.fusion.judge import judge
from benchmarks.fusion.page import BELOW, Verdicts, document_of, write_page
from benchmarks.fusion.rules import CALIBRATED_BASELINE, ENSEMBLE, FORMER, MEAN, RULES, Rule
from contracts.errors import ModelError, UsageError, nearest_match
from reporting.terminal import console, note, progress_bar

COUNTS = (12, 30, 90)
_TABLES = "fusion-tables"
MEMBERS = (
    "patchcore",
    "deep_svdd",
    "subspace",
    "knn",
    "mahalanobis",
    "cnn",
    "cnn_weighted",
    "cnn_focal",
    "patch_head",
    "deep_sad",
)


@dataclass(frozen=True)
class FusionBench:
    """What is asked for.

    Attributes:
        data: directory that holds the data sets.
        cache: for features, fits, tables and figures.
        sets: names; all where none is given.
        draws: of each set.
        rules: names; all where none is given.
        members: member types.
        make: whether to make tables that are missing.
        markdown: the page to write, or None.
    """

    data: Path | None
    cache: Path
    sets: Sequence[str] = ()
    draws: int = 2
    rules: Sequence[str] = ()
    members: Sequence[str] = MEMBERS
    make: bool = True
    markdown: Path | None = None


def bench_fusion(bench: FusionBench) -> dict[str, Any]:
    """Judge the rules; the page's figures as a document.

    Raises:
        UsageError: no such set or rule.
        ModelError: there are no tables, and none may be made.
    """
    chosen = _rules_named(bench.rules)
    plans = sets_named(bench.sets)
    if bench.make:
        made = make_problems(
            plans, bench.data, bench.cache, bench.cache / _TABLES, COUNTS, bench.draws, bench.members
        )
        for problem in made:
            note(f"{problem.data_set}, draw {problem.draw}, {problem.n_labels} labels: tables are there.")
    wanted = {plan.name for plan in plans}
    problems = [
        problem
        for problem in read_problems(bench.cache / _TABLES, COUNTS)
        if problem.data_set in wanted and problem.draw < bench.draws
    ]
    if not problems:
        raise ModelError(f"{bench.cache}: no score tables there. Leave out --no-make, and name --data.")
    with progress_bar("judging", len(problems)) as bar:
        judged = judge(problems, chosen, bench.cache / "fusion-figures", bar.advance)
    verdicts = Verdicts(problems, judged)
    _print(verdicts)
    if bench.markdown is not None:
        write_page(verdicts, RULES, _command(bench), bench.markdown)
        note(f"{bench.markdown} written.")
    return document_of(verdicts)


def has_tables(cache: Path) -> bool:
    """Whether an earlier call left tables to judge rules on."""
    return bool(read_problems(cache / _TABLES, COUNTS))


def _print(verdicts: Verdicts) -> None:
    table = Table(title=f"Rules of fusion on {len(verdicts.problems)} problems")
    for heading in ("rule", "AUROC", "AP", f"log error against {CALIBRATED_BASELINE}", "below best", "worst"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for rule in verdicts.by_error:
        difference, lost = verdicts.difference(rule, CALIBRATED_BASELINE), verdicts.below_best(rule)
        table.add_row(
            rule,
            f"{verdicts.values(rule, 'auroc').mean():.4f}",
            f"{verdicts.values(rule, 'average_precision').mean():.4f}",
            f"{difference.mean:+.3f} ({difference.low:+.3f} … {difference.high:+.3f})",
            f"{int((lost > BELOW).sum())}",
            f"{-lost.max():+.3f}",
        )
    console.print(table)


def _rules_named(names: Sequence[str]) -> dict[str, Rule]:
    """Rules by name, and those that all others are compared with."""
    for name in names:
        if name not in RULES:
            raise UsageError(
                f"--rules {name}: not known. Known are {', '.join(RULES)}.{nearest_match(name, RULES)}"
            )
    wanted = {*names, ENSEMBLE, FORMER, MEAN, CALIBRATED_BASELINE} if names else set(RULES)
    return {name: rule for name, rule in RULES.items() if name in wanted}


def _command(bench: FusionBench) -> str:
    words = ["python", "-m", "benchmarks", "fusion", "--draws", str(bench.draws)]
    words += ["--sets", ",".join(bench.sets)] if bench.sets else []
    return shlex.join([*words, "--data", "DATA"])
