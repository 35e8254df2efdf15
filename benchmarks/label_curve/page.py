"""The page ``docs/results/label-curve.md`` and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.few_labels.draws import MOST_MAJORITY, MOST_TEST
from benchmarks.label_curve.measure import ENSEMBLE, MEAN, SUPERVISED
from benchmarks.label_curve.summary import ANOMALY, FIGURES, WAYS, Curves, coverage_of, validity_of
from benchmarks.pages import opening
from contracts.files import write_text
from reporting.drawing import as_svg, our_style

NOTES = "## What it shows"
"""What stands on the page from this heading on is written by people, and kept when the page is made again."""

_TITLES = {"auroc": "AUROC", "average_precision": "Average precision"}
# Okabe & Ito 2008, and dashes for print without colour.
_LINES = {
    ENSEMBLE: ("#0072b2", "-"),
    ANOMALY: ("#d55e00", (0, (1, 1.2))),
    SUPERVISED: ("#555555", (0, (5, 2))),
    MEAN: ("#009e73", (0, (3, 1, 1, 1))),
}
_COLUMNS = 3
_TOLERANCE = 0.01


def write_page(curves: Curves, command: str, path: Path) -> None:
    """Write the page, and its picture beside it; what people wrote below :data:`NOTES` stays."""
    picture = path.parent.parent / "images" / f"{path.stem}.svg"
    write_text(picture, drawn(curves))
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    notes = old[old.index(NOTES) :] if NOTES in old else f"{NOTES}\n\nNothing yet.\n"
    write_text(path, as_markdown(curves, command, f"../images/{picture.name}", notes))


def as_markdown(curves: Curves, command: str, picture: str, notes: str) -> str:
    """The page."""
    draws = len({document["draw"] for document in curves.documents})
    lines = [
        *opening("From no label to fifty", command),
        f"Each data set has a class made rare. A draw takes at most {MOST_MAJORITY} majority images and the "
        f"first n minority images of a seeded order for training; "
        f"{draws} draw{'s' if draws > 1 else ''} of each set at most.",
        "Whatever is left is judged: images of other groups, at most "
        f"{MOST_TEST} of each class, the same for every n of a draw, so that the curve shows labels alone.",
        f"*{ANOMALY}* is an oracle, chosen for each set on the judged images; *{SUPERVISED}* is plain "
        "cross-entropy on the frozen backbone's features, calibrated. With no label the ensemble is the",
        "plain mean of the anomaly members.",
        "",
        f"![AUROC over the number of labelled minority images, one panel for each data set]({picture})",
        "",
    ]
    for figure in FIGURES:
        lines += [f"## {_TITLES[figure]}", "", *_curve_table(curves, figure), ""]
    lines += [
        "## Is the ensemble ever behind, does the curve ever fall?",
        "",
        *_means_table(curves),
        "",
        *_questions(curves),
        "",
        "## p_normal on normal images that nothing was fitted on",
        "",
        "Share with `p_normal` at or below alpha, each group counting as one; it may be alpha at most, "
        "averaged over draws. *Above* counts problems whose own share is above the binomial's",
        "97.5 % quantile, which calibration on few images alone makes more frequent than 2.5 %.",
        "",
        *_validity_table(curves),
        "",
        "## The cross-validated figure against the judged images",
        "",
        "A run without a test set states cross-validated figures of its ensemble. *Inside* counts problems "
        "on which the figure on the judged images lies in the stated 95 % interval. Average precision",
        "depends on the share of the minority, which is another one there, so only AUROC is compared. One "
        "repeat of the folds, where a run has three.",
        "",
        *_coverage_table(curves),
        "",
        *_refusals(curves),
        notes.rstrip(),
        "",
    ]
    return "\n".join(lines)


def _curve_table(curves: Curves, figure: str) -> list[str]:
    lines = [f"| set | n | {' | '.join(WAYS)} |", f"|---|---:|{'---:|' * len(WAYS)}"]
    for data_set in curves.data_sets:
        for n_labels in curves.counts(data_set):
            cells = [_mean_of(curves.values(data_set, n_labels, way, figure)) for way in WAYS]
            lines.append(f"| {data_set} | {n_labels} | {' | '.join(cells)} |")
    return lines


def _mean_of(values: np.ndarray) -> str:
    """Mean and standard deviation over draws; a dash where a draw has none."""
    if np.isnan(values).any():
        return "–"
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def _means_table(curves: Curves) -> list[str]:
    """AUROC by number of labels, mean over the sets that have so many."""
    lines = [f"| n | sets | {' | '.join(WAYS)} | minus the better of two |"]
    lines += [f"|---:|---:|{'---:|' * len(WAYS)}---:|"]
    for n_labels in sorted({document["n_labels"] for document in curves.documents}):
        sets = [name for name in curves.data_sets if n_labels in curves.counts(name)]
        cells = [_mean_of_sets(curves, sets, n_labels, way) for way in WAYS]
        short = float(np.mean([curves.shortfall(name, n_labels, "auroc") for name in sets]))
        lines.append(f"| {n_labels} | {len(sets)} | {' | '.join(cells)} | {short:+.3f} |")
    return [
        f"AUROC, mean over sets; *minus the better of two* is the ensemble minus {ANOMALY} or {SUPERVISED}, "
        "whichever is better on a set.",
        "",
        *lines,
    ]


def _mean_of_sets(curves: Curves, sets: Sequence[str], n_labels: int, way: str) -> str:
    means = [float(curves.values(name, n_labels, way, "auroc").mean()) for name in sets]
    return "–" if np.isnan(means).any() else f"{np.mean(means):.3f}"


def _questions(curves: Curves) -> list[str]:
    lines = []
    for figure in FIGURES:
        cases = [(name, n) for name in curves.data_sets for n in curves.counts(name)]
        short = {case: curves.shortfall(*case, figure) for case in cases}
        behind = {case: value for case, value in short.items() if value < -_TOLERANCE}
        worst = min(short, key=lambda case: short[case])
        lines.append(
            f"- {_TITLES[figure]}: the ensemble's mean is more than {_TOLERANCE:g} below the better of "
            f"{ANOMALY} and {SUPERVISED} in {len(behind)} of {len(cases)} cases; at worst "
            f"{short[worst]:+.3f} ({worst[0]}, n = {worst[1]})."
        )
        means = curves.without_labels(figure).items()
        if means:
            lines.append(
                f"- {_TITLES[figure]} without labels, mean over sets: "
                f"{', '.join(f'{way} {value:.3f}' for way, value in means)}. Nobody can know there which "
                "member is the best for a set."
            )
        falls = [
            (name, *step)
            for name in curves.data_sets
            for step in curves.steps(name, figure)
            if step[2] < -2.0 * step[3] and step[2] < 0.0
        ]
        steps = sum(len(curves.steps(name, figure)) for name in curves.data_sets)
        shown = "; ".join(f"{name}, {few} to {more}: {change:+.3f}" for name, few, more, change, _ in falls)
        lines.append(
            f"- {_TITLES[figure]}: of {steps} steps to more labels {len(falls)} fall by more than twice the "
            f"standard error over draws{f' ({shown})' if falls else ''}."
        )
    return lines


def _validity_table(curves: Curves) -> list[str]:
    lines = [
        "| labels | alpha | problems | mean share | 95 % interval | above |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    parts = [
        ("none", [d for d in curves.documents if d["n_labels"] == 0]),
        ("some", [d for d in curves.documents if d["n_labels"] > 0]),
    ]
    for name, documents in parts:
        lines += [
            f"| {name} | {row.alpha:g} | {row.problems} | {row.share:.4f} | {row.low:.4f} … {row.high:.4f} | "
            f"{row.above} |"
            for row in validity_of(documents)
        ]
    return lines


def _coverage_table(curves: Curves) -> list[str]:
    lines = ["| n | problems | inside | mean of estimate − judged | mean width of the interval |"]
    lines += ["|---:|---:|---:|---:|---:|"]
    rows = coverage_of(curves.documents, "auroc")
    for row in rows:
        share = f"{row.inside} ({100 * row.inside / row.cases:.0f} %)"
        lines.append(f"| {row.n_labels} | {row.cases} | {share} | {row.difference:+.3f} | {row.width:.3f} |")
    cases, inside = sum(row.cases for row in rows), sum(row.inside for row in rows)
    if cases:
        lines.append(f"| all | {cases} | **{inside} ({100 * inside / cases:.0f} %)** | | |")
    return lines


def _refusals(curves: Curves) -> list[str]:
    """What could not be fitted, and why; nothing where everything could."""
    why: dict[str, int] = {}
    for document in curves.documents:
        for way, sentence in document["refused"].items():
            line = f"n = {document['n_labels']}, {way}: {sentence}"
            why[line] = why.get(line, 0) + 1
    if not why:
        return []
    return ["## Not fitted", "", *(f"- {line} ({count} problems)" for line, count in why.items()), ""]


def drawn(curves: Curves) -> str:
    """The picture as SVG text: a panel for each set, AUROC over the number of labels, with all draws."""
    names = curves.data_sets
    n_rows = -(-len(names) // _COLUMNS)
    with our_style():
        figure = Figure(figsize=(3.4 * _COLUMNS, 2.5 * n_rows + 0.5), layout="constrained")
        panels: Sequence[Axes] = figure.subplots(n_rows, _COLUMNS, squeeze=False).ravel().tolist()
        for panel, name in zip(panels, names, strict=False):
            _draw_panel(panel, curves, name)
        for panel in panels[len(names) :]:
            panel.set_axis_off()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(WAYS))
        return as_svg(figure)


def _draw_panel(panel: Axes, curves: Curves, name: str) -> None:
    counts = curves.counts(name)
    # Evenly spaced: the first labels matter most.
    places = np.arange(len(counts))
    for way in reversed(WAYS):
        values = [curves.values(name, n, way, "auroc") for n in counts]
        colour, dashes = _LINES[way]
        means = np.array([float(v.mean()) for v in values])
        panel.plot(places, means, color=colour, linestyle=dashes, label=way, marker="o", markersize=2.5)
        if way == ENSEMBLE:
            low, high = ([float(f(v)) for v in values] for f in (np.min, np.max))
            panel.fill_between(places, low, high, color=colour, alpha=0.14, linewidth=0)
    panel.set_xticks(places, [str(count) for count in counts])
    panel.set(title=name.replace("_", " "), xlabel="labelled minority images", ylabel="AUROC")
