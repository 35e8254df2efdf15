"""Protocols of published papers, with recipe quick as it is: nothing is tuned to a set.

* **ELPV with ten labelled anomalies** (DRA, Ding et al. 2022, https://arxiv.org/abs/2203.14506; AHL, Zhu et
  al. 2024, https://arxiv.org/abs/2310.12790): of the cells that the experts were sure of, three quarters of
  the normal ones train (1,131), the rest (377) are judged with all anomalies but the ten that train (705 of
  715, of either cell type). Published figures are means of three runs.
* **Trees as MVTec AD's**: ``train/good`` trains; ``test`` is judged. Once on normal images alone, and once
  with ten anomalies of any kind from ``test``, which are judged no more.

One class against the rest is ``python -m benchmarks oneclass``.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.few_labels.draws import Draw
from benchmarks.few_labels.fits import FewLabels
from benchmarks.few_labels.sets import PLANS, LabelledSet, SetPlan, load_set, quick_members
from benchmarks.few_labels.tables import Problem, scores_on
from benchmarks.label_curve.measure import ENSEMBLE, MEAN, SUPERVISED, ranking, ways
from benchmarks.pages import opening
from contracts.errors import DataError
from contracts.files import write_text
from ensemble.conformal import fused_score
from reporting.terminal import console, note
from workflow.run.copies.views import views_to_fit
from workflow.run.features import load_backbones

LABELLED = 10
"""Anomalies that train."""

_NORMAL_TO_TRAIN = 0.75
_ANOMALY = "best anomaly member"
_WAYS = (ENSEMBLE, MEAN, _ANOMALY, SUPERVISED)
# Of image-level AUROC, by protocol and number of labelled anomalies.
_PUBLISHED = {
    ("elpv", LABELLED): "AHL .850",
    ("tree", LABELLED): "AHL .970 (mean of MVTec AD)",
    ("tree", 0): "Dinomaly .996 (mean of MVTec AD, ViT-B at 392 px)",
}


@dataclass(frozen=True)
class ProtocolsBench:
    """What is asked for.

    Attributes:
        tree: directory of a data set like MVTec AD, one category a folder; None for none.
        draws: of the anomalies that train, and on ELPV of the cells.
        members: member types; those of recipe quick where none is given.
        cache: for features and fits.
        markdown: the page to write, or None.
    """

    tree: Path | None
    cache: Path
    draws: int = 3
    members: Sequence[str] = ()
    markdown: Path | None = None


@dataclass(frozen=True)
class _Result:
    """AUROC and average precision of each way in each draw.

    Attributes:
        protocol: ``elpv`` or ``tree``.
        name: of the set.
        n_labels: anomalies that train.
        n_train: normal images that train.
        n_test: judged images, normal ones and anomalies.
        figures: way → ``[D, 2]``; a way that was refused has no entry.
    """

    protocol: str
    name: str
    n_labels: int
    n_train: int
    n_test: tuple[int, int]
    figures: dict[str, np.ndarray[Any, Any]]


def bench_protocols(bench: ProtocolsBench) -> dict[str, Any]:
    """Train and judge; prints a table and returns all figures.

    Raises:
        DataError: the tree has no folder with ``train/good``, or nothing is there to be measured.
    """
    members = bench.members or quick_members()
    results: list[_Result] = []
    elpv = load_set(PLANS["elpv"], None, bench.cache, members)
    if elpv is not None:
        results += _measured("elpv", elpv, bench)
    for plan in _categories(bench.tree):
        found = load_set(plan, bench.tree, bench.cache, members)
        if found is not None:
            results += _measured("tree", found, bench)
    if not results:
        raise DataError("No protocol can be measured: elpv-dataset is not installed, and no --tree is named.")
    _print(results)
    if bench.markdown is not None:
        write_text(bench.markdown, _page(results, bench, members))
        note(f"{bench.markdown} written.")
    return {
        "protocols": [
            {
                "protocol": r.protocol,
                "set": r.name,
                "labels": r.n_labels,
                "auroc": {way: values[:, 0].tolist() for way, values in r.figures.items()},
                "average_precision": {way: values[:, 1].tolist() for way, values in r.figures.items()},
            }
            for r in results
        ]
    }


def _categories(tree: Path | None) -> list[SetPlan]:
    """The folders of a tree that have ``train/good``."""
    if tree is None:
        return []
    names = sorted(path.parent.parent.name for path in tree.glob("*/train/good") if path.is_dir())
    if not names:
        raise DataError(
            f"--tree {tree}: none of its folders has train/good. It wants the directory that holds the "
            "categories, as bottle/train/good and bottle/test/broken_large."
        )
    return [SetPlan(name, name, "anomalous", folder=True) for name in names]


def draws_of(protocol: str, of: LabelledSet, seed: int) -> Iterator[tuple[int, Draw]]:
    """Numbers of labels, each with the draw that it is measured on.

    Args:
        protocol: ``elpv`` or ``tree``.
        of: the set.
        seed: of the draw.
    """
    rng = np.random.default_rng([seed, 18])
    anomalies = rng.permutation(np.flatnonzero(of.labels == 1))
    normal = np.flatnonzero(of.labels == 0)
    if protocol == "elpv":
        normal = rng.permutation(normal)
        cut = round(_NORMAL_TO_TRAIN * len(normal))
        train, judged = np.sort(normal[:cut]), normal[cut:]
    else:
        is_train = np.array([of.rows[i].path.startswith("train/") for i in normal])
        train, judged = normal[is_train], normal[~is_train]
    for n_labels in (0, LABELLED):
        if len(anomalies) < 2 * n_labels:
            note(f"{of.name} is measured without labels alone: it has {len(anomalies)} anomalies.")
            continue
        test = np.sort(np.concatenate([judged, anomalies[n_labels:]]))
        yield n_labels, Draw(seed, train, anomalies[:n_labels], test)


def _measured(protocol: str, of: LabelledSet, bench: ProtocolsBench) -> list[_Result]:
    """One result for each number of labels."""
    [loaded] = load_backbones(of.config, {plan.backbone for plan in of.config.members}).values()
    rows: dict[int, list[tuple[Draw, dict[str, tuple[float, float]]]]] = {}
    for seed in range(bench.draws):
        for n_labels, draw in draws_of(protocol, of, seed):
            # A tree's training images are given: without labels all draws are one.
            if protocol == "tree" and n_labels == 0 and seed > 0:
                continue
            problem = FewLabels.make(of, draw, n_labels)
            data = problem.prepared
            views = views_to_fit(data, of.config.members)
            loaded.fill(data, [*data.train, *data.test], of.config.decode, "cpu", views.pairs)
            rows.setdefault(n_labels, []).append((draw, _judged(scores_on(problem, loaded, bench.cache))))
    results = []
    for n_labels, found in rows.items():
        draw = found[0][0]
        n_anomalies = int(of.labels[draw.test].sum())
        figures = {
            way: np.array([judged[way] for _, judged in found])
            for way in _WAYS
            if all(way in judged for _, judged in found)
        }
        n_test = (len(draw.test) - n_anomalies, n_anomalies)
        results.append(_Result(protocol, of.name, n_labels, len(draw.majority), n_test, figures))
    return results


def _judged(problem: Problem) -> dict[str, tuple[float, float]]:
    """Way → AUROC and average precision; the best anomaly member is chosen on the judged images."""
    test = problem.test
    found = {}
    for way, fit in ways(problem.n_labels).items():
        figures = ranking(test, fused_score(fit(problem.oof).combination.logits(test.scores)))
        found[way] = (figures["auroc"], figures["average_precision"])
    anomaly = [
        ranking(test, scores)
        for column, scores in zip(test.columns, test.scores.T, strict=True)
        if column.kind == "oneclass"
    ]
    if anomaly:
        best = max(anomaly, key=lambda figures: figures["auroc"])
        found[_ANOMALY] = (best["auroc"], best["average_precision"])
    return found


def _cell(result: _Result, way: str, figure: int) -> str:
    """Mean of the draws, and their standard deviation where there are several."""
    if way not in result.figures:
        return "–"
    values = result.figures[way][:, figure]
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def _rows(results: Sequence[_Result]) -> list[list[str]]:
    return [
        [
            r.name,
            str(r.n_labels),
            f"{r.n_train:,}",
            f"{r.n_test[0]:,} + {r.n_test[1]:,}",
            *(_cell(r, way, 0) for way in _WAYS),
            _cell(r, ENSEMBLE, 1),
            _PUBLISHED.get((r.protocol, r.n_labels), "–"),
        ]
        for r in results
    ]


_HEADINGS = (
    "set",
    "labelled anomalies",
    "normal images in training",
    "judged",
    *(f"{way}, AUROC" for way in _WAYS),
    "ensemble, AP",
    "published AUROC",
)


def _print(results: Sequence[_Result]) -> None:
    # What a terminal has room for; the page and the document hold all.
    table = Table(title="Published protocols, AUROC")
    for number, heading in enumerate(("set", "labels", ENSEMBLE, _ANOMALY, SUPERVISED, "published")):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for r in results:
        published, _, _ = _PUBLISHED.get((r.protocol, r.n_labels), "–").partition(" (")
        cells = [_cell(r, way, 0) for way in (ENSEMBLE, _ANOMALY, SUPERVISED)]
        table.add_row(r.name, str(r.n_labels), *cells, published)
    console.print(table)


def _page(results: Sequence[_Result], bench: ProtocolsBench, members: Sequence[str]) -> str:
    words = ["python", "-m", "benchmarks", "protocols", "--draws", str(bench.draws)]
    words += ["--tree", "TREE"] if bench.tree is not None else []
    lines = opening("Protocols of published papers", shlex.join(words))
    several = bench.draws > 1
    of_draws = f"Means and standard deviations of {bench.draws} draws." if several else "One draw of each."
    lines += [
        f"Recipe `quick` as it is, with the members {', '.join(f'`{name}`' for name in members)}; nothing is",
        f"tuned to a set. {of_draws} The best anomaly member is",
        "an oracle: it is chosen on the judged images. Published figures, of other backbones, are those of",
        "the papers.",
        "",
        f"| {' | '.join(_HEADINGS)} |",
        f"|---|{'---:|' * (len(_HEADINGS) - 1)}",
        *(f"| {' | '.join(row)} |" for row in _rows(results)),
        "",
        "- **ELPV**: of the cells whose defect probability is 0 or 1, three quarters of the normal ones",
        "  train, a quarter is judged with all anomalies but those that train (DRA, Ding et al. 2022; AHL,",
        "  Zhu et al. 2024).",
        "- **Trees as MVTec AD's**: `train/good` trains, `test` is judged; ten anomalies of any kind move to",
        "  training.",
        "- One class of Fashion-MNIST against the rest: [one-vs-rest](one-vs-rest.md).",
        "",
    ]
    return "\n".join(lines)
