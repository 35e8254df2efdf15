"""The page ``docs/results/label-audit.md``: flipped labels found among the first of the list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.audit.problems import MOST_MINORITY
from benchmarks.audit.rankings import AUDIT, WHAT
from benchmarks.few_labels.draws import MOST_MAJORITY
from benchmarks.pages import opening
from contracts.text import number_of
from workflow.settings.recipe import load_recipe_document


@dataclass(frozen=True)
class Found:
    """How many flipped labels one list holds.

    Attributes:
        data_set: its name.
        draw: seed of the draw.
        share: of the labels that were flipped.
        ranking: its name.
        listed: share of the images that is looked at.
        n_rows: training images.
        n_listed: images of the list.
        n_wrong: flipped labels.
        n_found: of these, on the list.
        n_hidden: minority images that were called the majority's.
        n_hidden_found: of these, on the list.
    """

    data_set: str
    draw: int
    share: float
    ranking: str
    listed: float
    n_rows: int
    n_listed: int
    n_wrong: int
    n_found: int
    n_hidden: int
    n_hidden_found: int


def found_share(found: Sequence[Found]) -> float:
    """Mean share of the flipped labels, every data set and draw alike."""
    return sum(each.n_found / each.n_wrong for each in found) / len(found)


def as_markdown(found: Sequence[Found], members: Sequence[str], command: str) -> str:
    """The page."""
    shares = list(dict.fromkeys(each.share for each in found))
    lengths = list(dict.fromkeys(each.listed for each in found))
    sets = list(dict.fromkeys(each.data_set for each in found))
    cases = [(share, listed) for share in shares for listed in lengths]
    headings = [f"{_percent(share)} flipped, first {_percent(listed)}" for share, listed in cases]
    draws = len({each.draw for each in found})
    problems = {(each.data_set, each.draw) for each in found}
    sizes = " or ".join(str(size) for size in sorted({each.n_rows for each in found}))

    def of(share: float, listed: float, ranking: str = AUDIT, name: str = "") -> list[Found]:
        return [
            each
            for each in found
            if (each.share, each.listed, each.ranking) == (share, listed, ranking)
            and (not name or each.data_set == name)
        ]

    def counts(mine: Sequence[Found]) -> str:
        return f"{sum(each.n_found for each in mine)} of {sum(each.n_wrong for each in mine)}"

    lines = [
        *opening("Label audit", command),
        f"{len(problems)} problems, {number_of(draws, 'draw')} of each set: {MOST_MAJORITY} training images "
        f"of the majority and {MOST_MINORITY} of the minority ({sizes} together),",
        "drawn by whole groups. Labels of 1, 3 and 5 % of them, whatever their class, were flipped before "
        "training, so that folds, members, stack, calibration and the most similar images all saw the wrong",
        f"ones. The members are {', '.join(f'`{name}`' for name in members)}, on cached features. "
        f"{_left_out(members)}The tables count flipped labels among the first of the list.",
        "",
        f"| | {' | '.join(headings)} |",
        f"|---|{'---:|' * len(cases)}",
        *(f"| {name} | {' | '.join(counts(of(*case, name=name)) for case in cases)} |" for name in sets),
        f"| **all, share** | {' | '.join(f'**{_percent(found_share(of(*case)))}**' for case in cases)} |",
        f"| most that fit | {' | '.join(_most(of(*case)) for case in cases)} |",
        f"| by chance | {' | '.join(f'{_percent(listed)}' for _, listed in cases)} |",
        "",
        "A list of 2 % cannot hold 5 % of the labels: *most that fit* is what a perfect order would give.",
        "Labels that were wrong before take places, too; they count as found wrongly.",
        "",
        "## Hidden images of the minority",
        "",
        "Of the flipped labels, those of minority images that were called the majority's, on the same lists.",
        "",
        f"| | {' | '.join(headings)} |",
        f"|---|{'---:|' * len(cases)}",
        "| all | "
        + " | ".join(
            f"{sum(each.n_hidden_found for each in of(*case))} of {sum(each.n_hidden for each in of(*case))}"
            for case in cases
        )
        + " |",
        "",
        "## Other rankings",
        "",
        "Mean share of the flipped labels on lists of the same lengths. The two halves of the audit's "
        "ranking were chosen on first draws of elpv, gender, blood_cells and two kinds of neu; between the "
        "first three rows no difference is shown.",
        "",
        f"| | {' | '.join(headings)} |",
        f"|---|{'---:|' * len(cases)}",
        *(
            f"| {name} | {' | '.join(_percent(found_share(of(*case, ranking=name))) for case in cases)} |"
            for name in WHAT
        ),
        "",
        *(f"- **{name}**: {what}." for name, what in WHAT.items()),
        "",
    ]
    return "\n".join(lines)


def _left_out(members: Sequence[str]) -> str:
    """A sentence about the members of the recipe ``quick`` that were not fitted; empty where all were."""
    recipe, _ = load_recipe_document("quick")
    others = [f"`{name}`" for name in recipe["members"] if name not in members]
    if not others:
        return ""
    return f"Of the recipe `quick`, {', '.join(others)} take minutes for each problem and were left out. "


def _most(found: Sequence[Found]) -> str:
    """Share that a perfect order would find."""
    share = sum(min(each.n_listed, each.n_wrong) / each.n_wrong for each in found) / len(found)
    return _percent(share)


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
