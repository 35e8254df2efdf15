"""Members with and without views of their training images, judged on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.few_labels.draws import draw_of, usable_counts
from benchmarks.few_labels.fits import FewLabels
from benchmarks.few_labels.intervals import interval_of
from benchmarks.few_labels.sets import LabelledSet, load_set, sets_named
from benchmarks.few_labels.tables import COUNTS
from benchmarks.fusion.judge import ranking_figures_of
from contracts.errors import UsageError, nearest_match
from contracts.member import FitContext
from contracts.rows import FloatArray, IndexArray
from features.cache import PassingStore
from features.graphs.runner import backbone_runner
from features.rows import CachedRows
from imagedata.manifest_row import ManifestRow
from imagedata.views import CHANGES, View, ViewChange
from reporting.terminal import console, note
from workflow.ensembling.gate_images import decode_rows, evenly_chosen
from workflow.ensembling.perturbations import PERTURBATIONS
from workflow.run.features import BackboneWithStore, load_backbones, rows_of
from workflow.run.prepared import seed_of
from workflow.settings.registry import build_member, entry_of

MEMBERS = ("subspace", "deep_svdd", "deep_sad", "patch_head", "cnn")
# Images, of each class half, that are changed as no eye sees.
_MOST_CHANGED = 80
_BATCH = 32


@dataclass(frozen=True)
class ViewsBench:
    """What is asked for.

    Attributes:
        data: directory that holds the data sets.
        cache: for features.
        sets: names; all where none is given.
        draws: of each set.
        n_labels: labelled images of the minority.
        members: member types, whether or not they learn from views in the product.
        changes: of a view, in any order.
    """

    data: Path | None
    cache: Path
    sets: Sequence[str]
    draws: int
    n_labels: int
    members: Sequence[str]
    changes: Sequence[str]


@dataclass(frozen=True)
class Figures:
    """Of one member on one problem.

    Attributes:
        auroc: of its scores.
        log_error: natural logarithm of the ranking error.
        largest: perturbation → largest change of a score, in standard deviations of normal images' scores.
        median: likewise, of the median image.
    """

    auroc: float
    log_error: float
    largest: dict[str, float]
    median: dict[str, float]


@dataclass(frozen=True)
class _Judged:
    """One member on one problem, without and with views."""

    data_set: str
    draw: int
    member: str
    without: Figures
    with_views: Figures


def bench_views(bench: ViewsBench) -> dict[str, Any]:
    """Fit and judge; prints a table and returns all figures.

    Raises:
        UsageError: no such set, member or change.
    """
    for name in bench.changes:
        if name not in CHANGES:
            raise UsageError(
                f"--changes {name}: not known. Known are {', '.join(CHANGES)}.{nearest_match(name, CHANGES)}"
            )
    judged: list[_Judged] = []
    for plan in sets_named(bench.sets):
        of = load_set(plan, bench.data, bench.cache, ("cnn", *bench.members))
        if of is not None:
            judged += [each for draw in range(bench.draws) for each in _of_draw(of, draw, bench)]
    _print(judged)
    return {"changes": list(bench.changes), "labels": bench.n_labels, "judged": [asdict(j) for j in judged]}


def _of_draw(of: LabelledSet, seed: int, bench: ViewsBench) -> Iterator[_Judged]:
    n_minority = int((of.labels == 1).sum())
    draw = draw_of(of.labels, of.groups, max(usable_counts(COUNTS, n_minority)), seed)
    problem = FewLabels.make(of, draw, min(bench.n_labels, len(draw.candidates)))
    data = replace(problem.prepared, views={})
    changes: tuple[ViewChange, ...] = tuple(name for name in CHANGES if name in bench.changes)
    views = [(row, View(row.sha256, changes)) for row in data.train]
    [loaded] = load_backbones(of.config, {plan.backbone for plan in of.config.members}).values()
    loaded.fill(data, [*data.train, *data.test], of.config.decode, "cpu", views)
    train = {
        "without": rows_of(loaded.store, data, data.train, of.config.decode),
        "with_views": rows_of(loaded.store, data, data.train, of.config.decode, views),
    }
    test = rows_of(loaded.store, data, data.test, of.config.decode)
    chosen = evenly_chosen(test.labels, _MOST_CHANGED)
    changed = _changed(problem, loaded, [data.test[i] for i in chosen])
    for plan in of.config.members:
        if plan.name not in bench.members:
            continue
        figures = {}
        for name, rows in train.items():
            note(f"{problem.name}, {plan.name}, {name.replace('_', ' ')}")
            # One-class members ignore the minority's rows.
            member = build_member(plan.type, plan.settings, plan.backbone)
            member.fit(rows, FitContext(seed_of(seed, plan.name)))
            scores = member.score(test)[:, 0]
            figures[name] = _figures(
                test.labels, scores, chosen, {key: member.score(r)[:, 0] for key, r in changed.items()}
            )
        yield _Judged(of.name, seed, plan.name, **figures)


def _changed(problem: FewLabels, loaded: BackboneWithStore, rows: list[ManifestRow]) -> dict[str, CachedRows]:
    """Perturbation → the rows with it."""
    config, data = problem.config, problem.prepared
    run = backbone_runner(loaded.backbone, loaded.store.folder, "cpu")
    images = decode_rows(config, data, rows, "decoding test images")
    digests = [row.sha256 for row in rows]
    found = {}
    for name, perturbation in PERTURBATIONS.items():
        store = PassingStore(loaded.store)
        pixels = np.stack(
            [
                perturbation.change(image, seed_of(config.seed, name, digest))
                for image, digest in zip(images, digests, strict=True)
            ]
        )
        for start in range(0, len(rows), _BATCH):
            store.append(digests[start : start + _BATCH], *run(pixels[start : start + _BATCH]))
        found[name] = rows_of(store, data, rows, config.decode)
    return found


def _figures(
    labels: IndexArray, scores: FloatArray, chosen: IndexArray, changed: dict[str, FloatArray]
) -> Figures:
    ranked = ranking_figures_of(labels, scores)
    unit = float(scores[labels == 0].std())
    moved = {name: np.abs(after - scores[chosen]) / unit for name, after in changed.items()}
    return Figures(
        ranked.auroc,
        ranked.log_error,
        {name: float(change.max()) for name, change in moved.items()},
        {name: float(np.median(change)) for name, change in moved.items()},
    )


def _print(judged: Sequence[_Judged]) -> None:
    table = Table(title="Members without and with views (changes in deviations of normal images' scores)")
    headings = (
        "member",
        "learns",
        "AUROC",
        "log error",
        "noise, largest",
        "JPEG 95, largest",
        "noise, median",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "member" else "right")
    for name in dict.fromkeys(each.member for each in judged):
        mine = [each for each in judged if each.member == name]
        both = [(each.without, each.with_views) for each in mine]
        difference = interval_of(
            np.array([b.log_error - a.log_error for a, b in both]), [each.data_set for each in mine]
        )
        cells = [
            _pair([(a.auroc, b.auroc) for a, b in both], 3),
            f"{difference.mean:+.3f} ({difference.low:+.3f} … {difference.high:+.3f})",
            _pair([(a.largest["noise"], b.largest["noise"]) for a, b in both], 2),
            _pair([(a.largest["jpeg_95"], b.largest["jpeg_95"]) for a, b in both], 2),
            _pair([(a.median["noise"], b.median["noise"]) for a, b in both], 2),
        ]
        table.add_row(name, "yes" if entry_of(name).learns_from_views else "no", *cells)
    console.print(table)


def _pair(values: Sequence[tuple[float, float]], digits: int) -> str:
    before, after = np.mean(values, axis=0)
    return f"{before:.{digits}f} → {after:.{digits}f}"
