"""The page ``docs/results/triage.md``: whether error rates are kept, and what NOVEL catches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from benchmarks.pages import opening
from benchmarks.triage.judge import BUDGETS, RATES, Judged, Triaged
from contracts.files import write_text
from contracts.triage import FAIL, NOVEL, PASS, REVIEW, TRIAGE_NAMES
from evaluation.comparison import clopper_pearson

_TITLES = {
    "elpv": "`elpv`",
    "gender": "`gender`",
    "neu": "`neu`, one surface against four",
    "neu_one": "`neu`, one surface against one",
}
Shares = npt.NDArray[np.float64]


def document_of(judged: Sequence[Judged]) -> dict[str, Any]:
    """All figures for ``--json``."""
    return {
        "kept": [
            {
                "set": name,
                "rate": rate,
                "draws": len(mine),
                "misses": _mean(_share(mine, "minority", PASS)),
                "false_alarms": _mean(_share(mine, "normal", FAIL)),
                "draws_shown_above": [
                    _shown_above(mine, of, code, rate) for of, code in (("minority", PASS), ("normal", FAIL))
                ],
            }
            for name, rate, mine in _at_rates(judged)
        ],
        "novel": [
            {
                "set": name,
                "rate": rate,
                **{
                    of: [_mean(_share(mine, of, code)) for code in range(len(TRIAGE_NAMES))]
                    for of in ("novel", "normal", "minority")
                },
            }
            for name, rate, mine in _at_rates(judged)
        ],
    }


_OF_STEEL = """ In each draw
of `neu` one steel surface is normal, four others (or one) are the minority, and one more is never trained."""

_PROTOCOL = """\
Each of {draws} draws of a set trains on other images: at most 300 of the majority and about 90 of the
minority. Members ({members}, without views), stack and p-values are fitted as `train-all` and `ensemble` fit
them: the p-values on out-of-fold scores, while the judged images are scored by the final fits.{of_steel}

## Whether the rates are kept

Share of the judged minority images that PASS, and of the judged normal images that FAIL: mean over the draws
with its 95 % interval (Student's t over draws), the same rate asked of both. The guarantee is on this mean.
In brackets: in how many draws the 95 % binomial interval of the draw's own images lies above what was asked.
Single draws may, because 90 images of the minority set the level by chance.

| set | asked | minority, PASS | normal, FAIL | minority, REVIEW | normal, REVIEW |
|---|---:|---:|---:|---:|---:|"""

_BUDGETS = """
## A review budget

`--review` chooses the rates on the training images. Share of images for people (REVIEW or NOVEL) at the
training rows' share of the minority, the rates it chose, and what came of them; means over draws.

| set | budget | for people | miss rate chosen | minority, PASS | false alarms chosen | normal, FAIL |
|---|---:|---:|---:|---:|---:|---:|"""

_NOVEL = """
## NOVEL on a surface that was never trained

| minority | asked | NOVEL | FAIL | REVIEW | PASS | normal, NOVEL | minority, NOVEL |
|---|---:|---:|---:|---:|---:|---:|---:|"""

_READING = """
Both p-values rank one number, the fused score. NOVEL is therefore what lies between the two classes: more
anomalous than normal images are, and less like the minority than its images are. There is room between them
only where the classes are well apart. A new kind of defect that looks like the known ones is FAIL, which
finds it as well; where the classes overlap it is REVIEW. PASS is what overlooks it.
"""


def as_markdown(judged: Sequence[Judged], command: str, members: Sequence[str]) -> str:
    """The page."""
    sets = list(dict.fromkeys(each.data_set for each in judged))
    draws = max(each.draw for each in judged) + 1
    of_steel = _OF_STEEL if any(name.startswith("neu") for name in sets) else ""
    named = ", ".join(f"`{name}`" for name in members)
    lines = [*opening("Triage", command), _PROTOCOL.format(draws=draws, members=named, of_steel=of_steel)]
    for name, rate, mine in _at_rates(judged):
        cells = [
            f"{_interval(_share(mine, of, code))} ({_shown_above(mine, of, code, rate)})"
            for of, code in (("minority", PASS), ("normal", FAIL))
        ]
        cells += [_percent(_mean(_share(mine, of, REVIEW))) for of in ("minority", "normal")]
        lines.append(_line(_TITLES[name], _percent(rate), *cells))
    lines.append(_BUDGETS)
    lines += [_budget_line(name, budget, _of(judged, name, budget)) for name in sets for budget in BUDGETS]
    if not of_steel:  # no kind was left out
        return "\n".join([*lines, ""])
    lines.append(_NOVEL)
    for name, rate, mine in _at_rates(judged):
        if name.startswith("neu"):
            cells = [_interval(_share(mine, "novel", code)) for code in (NOVEL, FAIL, REVIEW, PASS)]
            cells += [_percent(_mean(_share(mine, of, NOVEL))) for of in ("normal", "minority")]
            lines.append(_line(_TITLES[name], _percent(rate), *cells))
    return "\n".join([*lines, _READING])


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def write_page(judged: Sequence[Judged], command: str, members: Sequence[str], path: Path) -> None:
    """Write the page whole or not at all."""
    write_text(path, as_markdown(judged, command, members))


def _at_rates(judged: Sequence[Judged]) -> list[tuple[str, float, list[Triaged]]]:
    sets = dict.fromkeys(each.data_set for each in judged)
    return [
        (name, rate, [each.at_rate[rate] for each in judged if each.data_set == name])
        for name in sets
        for rate in RATES
    ]


def _of(judged: Sequence[Judged], name: str, budget: float) -> list[Triaged]:
    return [each.at_budget[budget] for each in judged if each.data_set == name]


def _share(mine: Sequence[Triaged], of: str, code: int) -> Shares:
    """``[draws]`` share of one kind of images that became one thing; NaN where there are none."""
    counts = np.array([getattr(each, of) for each in mine], dtype=np.float64)
    totals = counts.sum(axis=1)
    shares: Shares = np.full(len(mine), np.nan)
    np.divide(counts[:, code], totals, out=shares, where=totals > 0.0)
    return shares


def _shown_above(mine: Sequence[Triaged], of: str, code: int, asked: float) -> int:
    counts = [getattr(each, of) for each in mine]
    return sum(clopper_pearson(int(each[code]), int(each.sum()))[0] > asked for each in counts)


def _mean(shares: Shares) -> float:
    """Of the draws that have such images; 0 where none has."""
    known = shares[~np.isnan(shares)]
    return float(known.mean()) if len(known) else 0.0


def _interval(shares: Shares) -> str:
    """Mean with the 95 % interval of the mean of draws."""
    known = shares[~np.isnan(shares)]
    reach = 0.0
    if len(known) > 1:
        reach = float(student_t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))
    mean = float(known.mean())
    return f"{100.0 * mean:.1f} % ({max(0.0, 100.0 * (mean - reach)):.1f}–{100.0 * (mean + reach):.1f})"


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g} %"


def _budget_line(name: str, budget: float, mine: Sequence[Triaged]) -> str:
    people = [_share(mine, of, REVIEW) + _share(mine, of, NOVEL) for of in ("minority", "normal")]
    prior = np.array([each.prior for each in mine])
    for_people = prior * people[0] + (1.0 - prior) * people[1]
    rates = np.array([each.rates for each in mine]).mean(axis=0)
    return _line(
        _TITLES[name],
        _percent(budget),
        _interval(for_people),
        _percent(float(rates[0])),
        _interval(_share(mine, "minority", PASS)),
        _percent(float(rates[1])),
        _interval(_share(mine, "normal", FAIL)),
    )
