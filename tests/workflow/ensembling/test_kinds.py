"""Kinds of the minority from the command line: fits without a kind, and what is said by kind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.files import read_arrays, write_arrays
from reporting.content import KIND_COLUMNS, KindTables, Report
from reporting.markdown import markdown_page
from reporting.page import render
from reporting.result_tables import print_kinds
from tests.conftest import Run
from tests.pages import Page
from tests.pictures import write_pictures
from tests.reporting.made_up import report_of
from workflow.comparing.compare import comparison_of as compared
from workflow.ensembling.compared_run import ComparedRun
from workflow.ensembling.kinds import add_kinds
from workflow.ensembling.measuring import measure_repeats
from workflow.run.kinds import kind_fits_of, kinds_of_run, scores_without_kinds
from workflow.settings.config import RunOptions

LEFT_OUT = ("repeats=1", "members.cnn_weighted=false", "members.deep_svdd=false")
OPTIONS = ("--normal", "good", *(word for each in LEFT_OUT for word in ("-o", each)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good parts and two kinds of bad ones, one of them plainly different."""
    folder = tmp_path_factory.mktemp("kinds") / "parts"
    write_pictures(folder / "good", 24, odd=False, seed=1)
    write_pictures(folder / "spot", 6, odd=True, seed=2)
    write_pictures(folder / "stain", 5, odd=True, seed=3)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, trained: Run) -> Run:
    """Trained, with the fits that leave out a kind; not to be changed."""
    run = Run(folder, trained.recipe, folder.parent / "runs")
    trained.give_traced_backbones(run.runs)
    outcome = run.command("train-all", *OPTIONS, "--json")
    assert outcome.code == 0, outcome.err
    assert "Kinds of anomalous: spot (6), stain (5). To measure kinds never seen, each is" in outcome.said
    # Two members on three folds and all rows, and the supervised one of them once more on each fold.
    assert (outcome.json["fits_done"], outcome.json["fits_run"]) == (11, 11)
    assert run.command("train-all", *OPTIONS, "--json").json["fits_run"] == 0
    return run


def opened(run: Run, *overrides: str) -> ComparedRun:
    options = RunOptions(
        str(run.dataset),
        recipe=str(run.recipe),
        runs=run.runs,
        normal="good",
        overrides=(*LEFT_OUT, *overrides),
    )
    return ComparedRun.open(options)


def figures_of(run: ComparedRun) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    rows = measure_repeats(run, run.fitted_repeats)
    return rows, add_kinds(run, run.fitted_repeats, rows)


def test_figures_by_kind_are_those_of_the_judged_rows(run: Run):
    there = opened(run)
    rows, document = figures_of(there)
    assert document["kinds"]["images"] == {"spot": 6, "stain": 5}
    assert document["kinds"]["left_out"] == ["spot", "stain"]
    assert "11 images of 2 kinds and 24 others" in document["kinds"]["sentence"]
    json.dumps(rows)
    folds, results = there.kinds.folds, there.without_kinds
    assert folds is not None
    assert results is not None
    table = scores_without_kinds(there.oof, folds, results)
    assert len(table.row_ids) == 35
    for row in rows:
        recalls = row["recall_by_kind"]
        for how in ("seen", "never_seen"):
            counted = recalls["spot"][how][0] * 6 + recalls["stain"][how][0] * 5
            whole = row["recall"] if how == "seen" else row["never_seen"]["recall"][0]
            assert counted / 11 == pytest.approx(whole)
    # One-class members have ordinary scores; a supervised one has those of the fits without the kind.
    for i, column in enumerate(table.columns):
        same = np.array_equal(table.scores[:, i], there.oof.scores[:, i])
        assert same == (column.kind == "oneclass")


def test_a_fit_without_a_kind_has_not_seen_it(run: Run, tmp_path: Path):
    there = opened(run)
    fits = kind_fits_of(there.config, there.data, there.config.members)
    assert {fit.member.name for fit in fits} == {"cnn"}
    assert [(fit.fold, fit.without) for fit in fits] == [(0, "spot"), (1, "stain"), (2, "spot")]
    folds = kinds_of_run(there.config, there.data).folds
    assert folds is not None
    for fit in fits:
        arrays, _ = read_arrays(fit.path)
        assert list(arrays) == ["scores"]
        assert len(arrays["scores"]) == (~folds.learns(fit.fold)).sum()


def test_only_what_is_missing_is_fitted_again(run: Run, tmp_path: Path):
    copy = run.copy(tmp_path)
    fit = next(iter(opened(copy).without_kinds or {}))
    before = fit.path.read_bytes()
    fit.path.unlink()
    old = opened(copy)
    assert old.without_kinds is None
    assert old.key != opened(run).key
    rows, document = figures_of(old)
    assert "not measured yet: python cli.py train-all" in document["kinds"]["sentence"]
    assert all("never_seen" not in row for row in rows)
    assert set(rows[0]["recall_by_kind"]["spot"]) == {"seen"}
    assert copy.command("train-all", *OPTIONS, "--json").json["fits_run"] == 1
    assert np.array_equal(read_arrays(fit.path)[0]["scores"], _scores_in(before, tmp_path))
    assert opened(copy).key == opened(run).key


def _scores_in(content: bytes, folder: Path) -> np.ndarray:
    path = folder / "before.npz"
    path.write_bytes(content)
    return read_arrays(path)[0]["scores"]


def test_a_member_that_collapses_without_a_kind_is_not_judged_by_other_scores(run: Run, tmp_path: Path):
    copy = run.copy(tmp_path)
    fit = next(iter(opened(copy).without_kinds or {}))
    arrays, meta = read_arrays(fit.path)
    write_arrays(fit.path, arrays, {**meta, "collapsed": "all scores are alike."})
    rows, document = figures_of(opened(copy))
    assert "cnn, fold 1 without spot: all scores are alike." in document["kinds"]["sentence"]
    assert "never_seen" not in rows[0]


def test_kinds_can_be_left_alone(run: Run):
    off = opened(run, "kinds=off")
    rows, document = figures_of(off)
    assert off.kinds.folds is None
    assert document["kinds"]["left_out"] == []
    assert set(rows[0]["recall_by_kind"]["stain"]) == {"seen"}


def test_whole_networks_are_fitted_without_kinds_only_when_asked(run: Run):
    there = opened(run)
    cnn = there.config.member("cnn")
    whole = cnn.model_copy(update={"settings": cnn.settings.model_copy(update={"tune": "full"})})
    config = replace(there.config, members=(whole,))
    found = kinds_of_run(config, there.data)
    assert "cnn would be trained once more on every fold: -o kinds=named does it" in found.sentence
    assert found.folds is None
    named = replace(config, recipe=config.recipe.model_copy(update={"kinds": "named"}))
    assert kinds_of_run(named, there.data).folds is not None


def test_clusters_stand_in_for_kinds_and_are_called_so(trained: Run, tmp_path: Path):
    """Without names, and with 20 images or more, the minority is clustered once for all."""
    write_pictures(tmp_path / "parts" / "good", 24, odd=False, seed=1)
    write_pictures(tmp_path / "parts" / "odd", 20, odd=True, seed=2)
    run = Run(tmp_path / "parts", trained.recipe, tmp_path / "runs")
    trained.give_traced_backbones(run.runs)
    options = ["--minority", "odd", *OPTIONS[2:]]
    outcome = run.command("train-all", *options, "--json")
    assert outcome.code == 0, outcome.err
    assert "Clusters (not named kinds) of odd: cluster 1 (" in outcome.said
    assert "To measure clusters never seen, each is left out in turn." in outcome.said
    before = (run.folder / "clusters.json").read_bytes()
    again = run.command("train-all", *options, "--json")
    assert again.json["fits_run"] == 0
    assert (run.folder / "clusters.json").read_bytes() == before
    there = ComparedRun.open(
        RunOptions(
            str(run.dataset), recipe=str(run.recipe), runs=run.runs, minority="odd", overrides=LEFT_OUT
        )
    )
    rows, document = figures_of(there)
    assert sum(document["kinds"]["images"].values()) == 20
    assert "20 images of 2 clusters and 24 others" in document["kinds"]["sentence"]
    tables = KindTables.of({"rows": rows, **document})
    assert tables is not None
    assert tables.heading_never_seen == "Clusters never seen in training (not named kinds)"
    assert set(tables.by_kind) == {"cluster 1", "cluster 2"}
    named = replace(there.config, recipe=there.config.recipe.model_copy(update={"kinds": "named"}))
    assert kinds_of_run(named, there.data).images == {}


def test_the_comparison_says_it_everywhere(run: Run, capsys):
    there = opened(run)
    document = compared(there, "average_precision")
    tables = KindTables.of(document)
    assert tables is not None
    assert list(tables.by_kind) == ["spot", "stain"]
    assert len(tables.by_kind["spot"][1]) == len(KIND_COLUMNS)
    page = markdown_page(document, "c", "f")
    figures = next(row for row in document["rows"] if row["name"] == "ensemble")["never_seen"]
    cells = [f"{v:.3f} ({low:.3f} to {high:.3f})" for v, low, high in (figures["auroc"], figures["recall"])]
    assert f"| ensemble | {cells[0]} |" in page
    assert f"{cells[1]} |" in page
    assert "| spot | 6 | " in page
    print_kinds(document)
    said = capsys.readouterr().err
    assert f"{figures['auroc'][0]:.3f}" in said
    assert "Kinds never seen in training" in said
    assert "Recall by kind" in said
    html = Page(render(_with_kinds_of(document))).text
    assert "Kinds never seen in training" in html
    assert f"{figures['auroc'][0]:.3f}" in html


def _with_kinds_of(document: dict[str, Any]) -> Report:
    """A made-up report with the kinds of a real comparison."""
    report = report_of(2)
    of_row = {row["name"]: row for row in document["rows"]}
    rows = [
        row | {key: of_row[row["name"]][key] for key in ("recall_by_kind", "never_seen", "kinds_are_named")}
        for row in report.comparison["rows"]
    ]
    return replace(report, comparison={**report.comparison, "rows": rows, "kinds": document["kinds"]})
