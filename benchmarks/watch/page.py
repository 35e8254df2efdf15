"""The page ``docs/results/watch.md``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.pages import opening
from benchmarks.watch.simulate import SIZES, USUAL, Found
from contracts.files import write_text
from export.scoring.watch.drift import FALSE_ALARMS


def write_page(found: Sequence[Found], command: str, target: Path) -> None:
    """Write the page, whole or not at all."""
    batches = found[0].batches
    lines = [
        *opening("The watch: drift and share of the minority, on real images", command),
        "Batches are drawn from test images that no model saw, each image once per batch. "
        "Training, references and intervals know none of them. "
        f"{batches} batches of each make ({batches // 4} of changed ones); they share images, so they are "
        "less than as many independent ones.",
        "",
        "## Share of the minority",
        "",
        "Each image is of the minority with the stated probability. Covered: the 95 % interval holds that "
        "probability, of the batches with a figure.",
        "",
        "| data set | images | true share | without a figure | covered | median figure | median width |",
        "|---|---|---|---|---|---|---|",
    ]
    clean = [each for each in found if each.what == "unchanged"]
    for each in clean:
        given = each.batches - each.abstained
        figure = "–" if each.median is None else f"{each.median:.1%}"
        width = "–" if each.width is None else f"{each.width:.1%}"
        lines.append(
            f"| {each.data_set} | {each.images} | {each.share:.1%} | {each.abstained} of {each.batches} | "
            f"{_percent(each.covered, given)} | {figure} | {width} |"
        )
    given = sum(each.batches - each.abstained for each in clean)
    lines += [
        "",
        f"All together: a figure for {_percent(given, sum(each.batches for each in clean))} of the batches, "
        f"{_percent(sum(each.covered for each in clean), given)} of them covered.",
        "",
        "## False alarms",
        "",
        f"Stated: at most {FALSE_ALARMS:.0%} of batches, whatever the share of the minority. "
        f"Found in the batches above: {sum(each.alarms for each in clean)} of "
        f"{sum(each.batches for each in clean)}.",
        "",
        f"| data set | images | {' | '.join(f'share {share:.1%}' for share in _shares(clean))} |",
        f"|---|---|{'---|' * len(_shares(clean))}",
    ]
    for data_set in _names(clean):
        for n in SIZES:
            by_share = [
                f"{each.alarms} of {each.batches}"
                for share in _shares(clean)
                for each in clean
                if (each.data_set, each.images, each.share) == (data_set, n, share)
            ]
            lines.append(f"| {data_set} | {n} | {' | '.join(by_share)} |")
    lines += [
        "",
        "## Changes found",
        "",
        f"Share of batches with an alarm, at {USUAL:.0%} of the minority, by images per batch; "
        f"and what was named first most often, at {SIZES[-1]}. *Seen in features*: share of batches of "
        f"{SIZES[-1]} in which a direction of the pooled features raises an alarm, alone or beside "
        "other quantities.",
        "",
        f"| data set | change | {' | '.join(map(str, SIZES))} | named first | seen in features |",
        f"|---|---|{'---|' * len(SIZES)}---|---|",
    ]
    changed = [each for each in found if each.what != "unchanged"]
    for data_set in _names(changed):
        for what in dict.fromkeys(each.what for each in changed if each.data_set == data_set):
            mine = [each for each in changed if (each.data_set, each.what) == (data_set, what)]
            features = _percent(mine[-1].by_features, mine[-1].batches)
            cells = " | ".join(_percent(each.alarms, each.batches) for each in mine)
            lines.append(f"| {data_set} | {what} | {cells} | {mine[-1].named or '–'} | {features} |")
    write_text(target, "\n".join(lines) + "\n")


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


def _names(found: Sequence[Found]) -> list[str]:
    return list(dict.fromkeys(each.data_set for each in found))


def _shares(found: Sequence[Found]) -> list[float]:
    return sorted({each.share for each in found})
