"""``outnumbered score``: images in, a folder of parquet rows out, a few words for the person waiting.

What goes beyond the rows (CSV, review queue, heat maps) is made once all rows are there, from them alone;
the same command makes it again.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from contracts.errors import UsageError, nearest_match
from contracts.text import printable
from contracts.triage import LEVELS
from export.scoring.csv_files import check_csv_place, write_review, write_rows
from export.scoring.heat_maps import MOST_HEAT_MAPS, check_has_map, write_heat_maps
from export.scoring.model import NO_PROBABILITY, RUNTIMES, load_model
from export.scoring.output import first_failures
from export.scoring.plan import ESTIMATED, Levels, Override
from export.scoring.run import FinishedRun, ScoreSummary, score_images
from export.scoring.shard import DEFAULT_BATCH_SIZE
from export.scoring.summary import summarise, thresholds_of
from export.scoring.watch.finished import apply_share, keep_watch, watch_run
from export.scoring.watch.reference import check_share_can_be_estimated
from export.scoring.watch.verdict import NOT_IN_FILE
from imagedata.file_names import of_other_endings
from reporting.terminal import ProgressBar, new_console, progress_bar

_FAILURES_SHOWN = 3
_REASONS_SHOWN = 10


@dataclass(frozen=True)
class Extras:
    """What is wanted beside the rows.

    Attributes:
        csv: file for all rows as CSV; None for none.
        review: how many of the most uncertain images to list in ``_review.csv``.
        heat_maps: how many of the most probable images to draw in ``_heat_maps/``, 0…200; of the oddest
            where the file gives no probability.
        map_of: member whose map is drawn; None for all of them together.
    """

    csv: Path | None = None
    review: int = 0
    heat_maps: int = 0
    map_of: str | None = None


@dataclass(frozen=True)
class ScoreReport(ScoreSummary):
    """What a run of the scorer did, and what lies in its folder.

    Attributes:
        decisions: class name → images decided so.
        triage: PASS, FAIL, REVIEW and NOVEL → images; empty where the file has no triage.
        failures: reason → failed images, most frequent first; digits in reasons read ``#``.
        notes: why a column is empty, where one is; and what the decision rests on.
        review: the review queue, where it was asked for.
        heat_maps: the folder of pictures, where they were asked for.
        csv: the CSV file, where it was asked for.
        watch: how the images compare with training, see :mod:`export.scoring.watch`, and the estimated
            ``prior`` if one was applied; None for files that keep nothing of training.
    """

    decisions: dict[str, int] = field(default_factory=dict)
    triage: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    review: Path | None = None
    heat_maps: Path | None = None
    csv: Path | None = None
    watch: dict[str, Any] | None = None


def score(
    model: Path,
    paths: list[Path],
    *,
    output: Path,
    list_file: Path | None = None,
    path_column: str | None = None,
    processes: int | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    prior: Override | Literal["estimated"] = None,
    threshold: Override = None,
    levels: Levels = None,
    runtime: str = "onnxruntime",
    ray: str | None = None,
    overwrite: bool = False,
    extras: Extras | None = None,
    keeps: bool = True,
) -> ScoreReport:
    """Score images with an exported file and say on standard error how it went.

    Standard output stays free for machine-readable results.

    Args:
        model: the ONNX file.
        paths: image files, folders, patterns, tar and zip archives, and parquet files.
        output: folder for the part files.
        list_file: text file of more paths.
        path_column: column of parquet files that is read.
        processes: worker processes; None for one per usable processor.
        batch_size: images per call of the graph.
        prior: override of the file's prior; ``estimated`` for the share found in these images, where that is
            safe.
        threshold: override of the file's threshold.
        levels: overrides of the file's error rates of triage.
        runtime: what computes the graph, or ``auto``.
        ray: address of a Ray cluster, or None.
        overwrite: delete an earlier run's results first.
        extras: what is wanted beside the rows.
        keeps: whether the folder stays; the name of one that does not is no use to anybody.

    Raises:
        OutnumberedError: see :func:`export.scoring.run.score_images`.
    """
    extras = extras or Extras()
    _check(extras, model, output)
    estimated = prior == ESTIMATED
    if estimated:
        check_share_can_be_estimated(model, load_model(model, at_first_run=True).document)
    made: dict[str, Any] = {}
    console = new_console(soft_wrap=True)
    with progress_bar("scoring", None) as bar:
        summary = score_images(
            model,
            paths,
            output,
            list_file=list_file,
            path_column=path_column,
            processes=processes,
            batch_size=batch_size,
            prior=prior,
            threshold=threshold,
            levels=levels,
            runtime=runtime,
            ray=ray,
            overwrite=overwrite,
            on_progress=partial(_show, bar),
            on_finished=lambda run: made.update(_watched(run, estimated) | _make_extras(run, extras)),
        )
    report = ScoreReport(**asdict(summary), **made)
    _tell(console, report, keeps)
    return report


def _show(bar: ProgressBar, done: int, failed: int, total: int) -> None:
    bar.describe(f"scoring, {failed:,} failed" if failed else "scoring")
    bar.reach(done, total)


def _check(extras: Extras, model: Path, output: Path) -> None:
    """Refuse what cannot be made before hours of scoring."""
    if extras.csv is not None:
        check_csv_place(extras.csv, output)
    if not 0 <= extras.heat_maps <= MOST_HEAT_MAPS:
        raise UsageError(
            f"--heat-maps is {extras.heat_maps}; it is a number of pictures, 0 to {MOST_HEAT_MAPS}."
        )
    if extras.map_of is not None and not extras.heat_maps:
        raise UsageError(f"--map {extras.map_of}: no map is drawn. Give --heat-maps N as well.")
    if extras.heat_maps:
        check_has_map(load_model(model, at_first_run=True), extras.map_of)


def _watched(run: FinishedRun, estimated: bool) -> dict[str, Any]:
    """Compare with training; apply the share of the minority where it was asked for and is known."""
    watch = watch_run(run)
    if watch is None:
        return {}
    applied = apply_share(run, watch.share) if estimated else None
    keep_watch(run, watch, applied)
    document = {**watch.to_json(), "prior": applied}
    if estimated:
        own = f"{run.model.document['prior']:.4g}"
        document["sentences"].append(
            f"The file's own prior, {own}, is kept, because no share is safe to apply."
            if applied is None
            else f"Probabilities and decisions refer to this share, {applied:.4g}, not to the file's {own}."
        )
    return {"watch": document}


def _make_extras(run: FinishedRun, extras: Extras) -> dict[str, Any]:
    """Count, and write what was asked for; what :class:`ScoreReport` says about it."""
    found = summarise(run, extras.review, extras.heat_maps)
    if extras.csv is not None:
        write_rows(run, extras.csv)
    return {
        "decisions": found.decisions,
        "triage": found.triage,
        "failures": found.reasons,
        "notes": _notes(run),
        "review": write_review(run, found.review) if extras.review else None,
        "heat_maps": write_heat_maps(run, found.hottest, extras.map_of) if extras.heat_maps else None,
        "csv": extras.csv,
    }


def _notes(run: FinishedRun) -> tuple[str, ...]:
    """Sentences about columns that are empty, with what there is instead."""
    model = run.model
    if not model.has_p_normal:
        return ("Column p_normal is empty: the file was made before there was one. Give 'ensemble' again.",)
    if model.has_probability:
        if model.has_triage:
            return ()
        empty = "Columns p_minority and triage are empty: the file was made before there were any."
        return (f"{empty} Give 'ensemble' again.",)
    (alpha,) = thresholds_of(run)
    least = float(model.document["conformal"]["least"])
    notes = [
        f"Column probability is empty. {NO_PROBABILITY} So are p_minority and triage.",
        f"{model.minority} is decided where p_normal is at most {alpha:.4g}: of normal images like those the "
        "model was trained on, on average no more than this share.",
    ]
    # A float's digits are not what separates them.
    if alpha < least * (1.0 - 1e-6):
        notes.append(
            f"No image can be decided so: p_normal is never below {least:.4g}, 1 / (n + 1) for n normal "
            f"images. Give --threshold {math.ceil(least * 1e4) / 1e4:g} or more, or train on more of them."
        )
    return tuple(notes)


def parse_prior(text: str | None) -> Override | Literal["estimated"]:
    """Read ``--prior``: as :func:`parse_override`, or the word ``estimated``.

    Raises:
        UsageError: neither.
    """
    if text == ESTIMATED:
        return ESTIMATED
    if text is not None and text.isalpha():
        raise UsageError(
            f"--prior '{text}' is neither a number nor '{ESTIMATED}'.{nearest_match(text, [ESTIMATED])}"
        )
    return parse_override("prior", text)


def parse_override(name: str, text: str | None) -> Override:
    """Read ``--prior`` or ``--threshold``: a number, or one per class, separated by commas.

    Raises:
        UsageError: not numbers.
    """
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--{name} '{text}': write a number, such as 0.05, or one per class, such as 0.6,0.3,0.1."
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


def parse_levels(text: str | None) -> Levels:
    """Read ``--triage``: two shares, the miss rate and that of false alarms.

    Raises:
        UsageError: not two numbers.
    """
    rates = parse_override("triage", text)
    if rates is None:
        return None
    if not isinstance(rates, tuple) or len(rates) != len(LEVELS):
        raise UsageError(
            f"--triage '{text}': write two error rates, of misses and of false alarms, such as 0.01,0.02."
        )
    return dict(zip(LEVELS, rates, strict=True))


def _tell(console: Console, summary: ScoreReport, keeps: bool) -> None:
    """Counts, speed, the first failures and where all of them are."""
    if summary.already_done == summary.images:
        console.print(f"Nothing to do: all {summary.images:,} images were scored by an earlier run.")
    else:
        newly_done = summary.images - summary.already_done
        earlier = f" ({summary.already_done:,} more by an earlier run)" if summary.already_done else ""
        computed = "" if summary.runtime == RUNTIMES[0] else f", computed by {summary.runtime}"
        console.print(
            f"Scored {newly_done:,} images{earlier} in {summary.seconds:.1f} s, "
            f"{summary.images_per_second:.1f} images/s{computed}.",
            highlight=False,
        )
    if summary.known:
        console.print(
            f"{summary.known:,} of these {summary.images:,} images were used to train this model, so their "
            "scores are optimistic: they say nothing about images that it has not seen.",
            highlight=False,
        )
    console.print(Group(*_counts(summary)))
    watched = (NOT_IN_FILE,) if summary.watch is None else summary.watch["sentences"]
    for sentence in (*summary.notes, *watched):
        console.print(escape(printable(sentence)), highlight=False)
    if summary.failed:
        if len(summary.failures) > 1:
            console.print(_count_table("failed because", summary.failures, summary.failed))
        console.print(f"{summary.failed:,} of {summary.images:,} images failed:", highlight=False)
        for path, reason in first_failures(summary.output, _FAILURES_SHOWN):
            console.print(f"  {escape(printable(path))}: {escape(printable(reason))}", highlight=False)
        if summary.failed > _FAILURES_SHOWN:
            console.print("  … all of them are the rows with status 'failed'.", highlight=False)
    if summary.left_out:
        total = sum(summary.left_out.values())
        console.print(_count_table("left out, ending in", summary.left_out, total))
        console.print(
            f"Not scored: {of_other_endings(summary.left_out)}. "
            "Name such files one by one, by a pattern or with --list FILE, and unpack archives.",
            highlight=False,
        )
    if keeps:
        console.print(
            f"Rows: {escape(printable(str(summary.output)))} (parquet, one row per image)", highlight=False
        )
    for what, place in (
        ("The same as CSV", summary.csv),
        ("To be reviewed, most uncertain first", summary.review),
        ("Heat maps, the most suspicious first", summary.heat_maps),
    ):
        if place is not None:
            console.print(f"{what}: {escape(printable(str(place)))}", highlight=False)


def _counts(summary: ScoreReport) -> list[Table]:
    """Images by decision and, where the file has triage, by what becomes of them."""
    counted = {"decision": summary.decisions, **({"triage": summary.triage} if summary.triage else {})}
    return [_count_table(title, counts, summary.scored) for title, counts in counted.items()]


def _count_table(title: str, counts: dict[str, int], total: int) -> Table:
    """Counts with their share of ``total``; the rest of many reasons in one line."""
    table = Table(title, "images", "share", box=None, pad_edge=False)
    table.columns[1].justify = table.columns[2].justify = "right"
    lines = list(counts.items())
    rest = sum(count for _, count in lines[_REASONS_SHOWN:])
    for name, count in [*lines[:_REASONS_SHOWN], *([("others", rest)] if rest else [])]:
        table.add_row(
            escape(printable(name)), f"{count:,}", f"{100.0 * count / total:.1f} %" if total else "–"
        )
    return table
