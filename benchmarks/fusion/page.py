"""The page ``docs/results/fusion.md``: what each rule of fusion gave, on which problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.few_labels.draws import MOST_MAJORITY, MOST_TEST
from benchmarks.few_labels.intervals import Interval, interval_of
from benchmarks.few_labels.tables import Problem
from benchmarks.fusion.judge import SOLVED, Figures
from benchmarks.fusion.rules import BEST_MEMBER, CALIBRATED_BASELINE, ENSEMBLE, FORMER, MEAN, Rule
from benchmarks.pages import opening
from contracts.files import write_text

PAGE = Path("docs/results/fusion.md")
NOTES = "## What else was tried"
"""What stands on the page from this heading on is written by people, and kept when the page is made again."""

BELOW = 0.002
"""Less than this below the best member is no loss worth counting."""


@dataclass(frozen=True)
class Verdicts:
    """All rules on all problems.

    Attributes:
        problems: P of them.
        judged: rule → ``[P]`` figures.
    """

    problems: Sequence[Problem]
    judged: Mapping[str, Sequence[Figures]]

    @cached_property
    def data_sets(self) -> list[str]:
        """``[P]`` names."""
        return [problem.data_set for problem in self.problems]

    def values(self, rule: str, figure: str) -> npt.NDArray[np.float64]:
        """``[P]`` of one figure."""
        return np.array([getattr(figures, figure) for figures in self.judged[rule]], dtype=np.float64)

    def difference(self, rule: str, other: str, figure: str = "log_error") -> Interval:
        """Mean difference of a rule from another, with its interval."""
        return interval_of(self.values(rule, figure) - self.values(other, figure), self.data_sets)

    def below_best(self, rule: str) -> npt.NDArray[np.float64]:
        """``[P]`` AUROC of the best member minus that of the rule; below 0 where the rule is better."""
        return self.values(BEST_MEMBER, "auroc") - self.values(rule, "auroc")

    @property
    def by_error(self) -> list[str]:
        """Rules by their mean log of the ranking error, the best first; the oracle last."""
        rules = [rule for rule in self.judged if rule != BEST_MEMBER]
        return [*sorted(rules, key=lambda rule: self.values(rule, "log_error").mean()), BEST_MEMBER]


def document_of(verdicts: Verdicts) -> dict[str, object]:
    """All figures for ``--json``."""
    return {
        "problems": len(verdicts.problems),
        "rules": {
            rule: {
                "auroc": float(verdicts.values(rule, "auroc").mean()),
                "average_precision": float(verdicts.values(rule, "average_precision").mean()),
                "log_error_against": {
                    other: vars(verdicts.difference(rule, other))
                    for other in (CALIBRATED_BASELINE, MEAN, FORMER, BEST_MEMBER)
                },
                "below_best_member": int((verdicts.below_best(rule) > BELOW).sum()),
                "worst_below_best_member": float(verdicts.below_best(rule).max()),
            }
            for rule in verdicts.judged
        },
    }


def as_markdown(verdicts: Verdicts, rules: Mapping[str, Rule], command: str, notes: str) -> str:
    """The page.

    Args:
        verdicts: all figures.
        rules: what each rule does.
        command: that made it.
        notes: from the heading :data:`NOTES` on.
    """
    sets = list(dict.fromkeys(verdicts.data_sets))
    counts = sorted({problem.n_labels for problem in verdicts.problems})
    lines = [
        *opening("Rules of fusion on few labels", command),
        f"{len(verdicts.problems)} problems: {len(sets)} data sets in which one class is made rare "
        f"({', '.join(str(count) for count in counts)} minority images as far as they leave as many, or 30, "
        "to judge on), in several draws.",
        f"Each is trained on at most {MOST_MAJORITY} majority images and judged on images of other groups, "
        f"at most {MOST_TEST} of each class, which nothing was fitted on. All rules see",
        "the same out-of-fold tables of the members "
        f"{', '.join(f'`{name}`' for name in members_of(verdicts.problems))}.",
        "",
        "*log error* is the mean difference of log(1 − AUROC), so that −.10 means a tenth fewer misranked "
        f"pairs, on easy sets as on hard ones; an error below {SOLVED:g} counts as {SOLVED:g}, for such a "
        "set is solved and tells",
        "no rules apart. The 95 % intervals are of a bootstrap",
        "that draws data sets, and problems within each. The best member is an oracle: it is chosen on the "
        f"judged images. *Below* counts problems on which the AUROC is more than {BELOW:g} below it.",
        "ECE and Brier score are at the judged images' own class shares.",
        "",
        *_quality_table(verdicts),
        "",
        "## Differences of the log error",
        "",
        *_difference_table(verdicts),
        "",
        "## By number of labels and by data set",
        "",
        "Mean AUROC.",
        "",
        *_parts_table(verdicts, counts, sets),
        "",
        "## The rules",
        "",
        *(f"- **{name}**: {rule.what}." for name, rule in rules.items()),
        "",
        notes.rstrip() or f"{NOTES}\n\nNothing yet.",
        "",
    ]
    return "\n".join(lines)


def members_of(problems: Sequence[Problem]) -> list[str]:
    """Members of any problem, in order."""
    return list(dict.fromkeys(name for problem in problems for name in problem.oof.member_names))


def _quality_table(verdicts: Verdicts) -> list[str]:
    lines = [
        "| rule | AUROC | AP | below the best member | worst | ECE | Brier |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for rule in verdicts.by_error:
        lost = verdicts.below_best(rule)
        calibration = (
            ["–", "–"]
            if rule == BEST_MEMBER
            else [f"{verdicts.values(rule, figure).mean():.3f}" for figure in ("ece", "brier")]
        )
        cells = [
            _emphasised(rule),
            *(f"{verdicts.values(rule, figure).mean():.4f}" for figure in ("auroc", "average_precision")),
            f"{int((lost > BELOW).sum())} of {len(lost)}",
            f"{-lost.max():+.3f}",
            *calibration,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _difference_table(verdicts: Verdicts) -> list[str]:
    others = (CALIBRATED_BASELINE, MEAN, FORMER, BEST_MEMBER)
    lines = [f"| rule | {' | '.join(f'against {other}' for other in others)} |", "|---|---:|---:|---:|---:|"]
    for rule in verdicts.by_error[:-1]:
        cells = ["–" if rule == other else _shown(verdicts.difference(rule, other)) for other in others]
        lines.append(f"| {_emphasised(rule)} | {' | '.join(cells)} |")
    return lines


def _parts_table(verdicts: Verdicts, counts: Sequence[int], sets: Sequence[str]) -> list[str]:
    rules = [ENSEMBLE, FORMER, MEAN, CALIBRATED_BASELINE, BEST_MEMBER]
    lines = [f"| | problems | {' | '.join(rules)} |", f"|---|---:|{'---:|' * len(rules)}"]
    of_count = np.array([problem.n_labels for problem in verdicts.problems])
    of_set = np.array(verdicts.data_sets)
    parts = [(f"{count} labels", of_count == count) for count in counts]
    parts += [(name, of_set == name) for name in sets]
    for name, mine in parts:
        cells = [f"{verdicts.values(rule, 'auroc')[mine].mean():.4f}" for rule in rules]
        lines.append(f"| {name} | {int(mine.sum())} | {' | '.join(cells)} |")
    return lines


def _emphasised(rule: str) -> str:
    return f"**{rule}**" if rule == ENSEMBLE else rule


def _shown(interval: Interval) -> str:
    figures = f"{interval.mean:+.3f} ({interval.low:+.3f} … {interval.high:+.3f})"
    return f"**{figures}**" if interval.excludes_zero else figures


def write_page(verdicts: Verdicts, rules: Mapping[str, Rule], command: str, path: Path = PAGE) -> None:
    """Write the page; what people wrote below :data:`NOTES` stays."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    notes = old[old.index(NOTES) :] if NOTES in old else ""
    write_text(path, as_markdown(verdicts, rules, command, notes))
