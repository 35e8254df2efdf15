"""Repeats from the command line: trained beside the first, compared with two levels, selected and voting."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from contracts.files import read_arrays, read_json
from contracts.scores import ScoreTable
from export.scoring import load_model
from imagedata.decoding.decode import decode_file
from tests.conftest import Outcome, Run
from workflow.ensembling.compared_run import ComparedRun
from workflow.ensembling.measuring import measure_repeats
from workflow.run import state
from workflow.run.fits import FINAL, fits_of
from workflow.run.prepared import prepare_data
from workflow.settings.config import RunOptions, resolve_config

REPEATS = ("-o", "repeats=2")


@pytest.fixture(scope="module")
def repeated(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """``trained`` with a second repeat; not to be changed."""
    run = trained.copy(tmp_path_factory.mktemp("repeated"))
    outcome = run.command("train-all", *REPEATS, "--json")
    assert outcome.code == 0, outcome.err
    assert (outcome.json["fits_done"], outcome.json["fits_run"]) == (32, 16)
    return run


@pytest.fixture(scope="module")
def compared(repeated: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Outcome]:
    """A copy of ``repeated`` after ``compare`` with all its files; not to be changed."""
    run = repeated.copy(tmp_path_factory.mktemp("compared"))
    files = ("--csv", run.runs / "figures.csv", "--markdown", run.runs / "page.md")
    outcome = run.command("compare", *REPEATS, *files, "--json")
    assert outcome.code == 0, outcome.err
    return run, outcome


def options_of(run: Run, *overrides: str) -> RunOptions:
    return RunOptions(str(run.dataset), recipe=str(run.recipe), runs=run.runs, overrides=overrides)


def tables_of(run: Run, *repeats: int) -> tuple[ScoreTable, ScoreTable]:
    return ComparedRun.open(options_of(run, "repeats=2")).tables_of(repeats)


# ---- training


def test_the_first_repeat_is_the_run_without_repeats(trained: Run, repeated: Run):
    after = repeated.fit_bytes()
    for fit, content in trained.fit_bytes().items():
        assert after[fit] == content
    more = {fit for fit in after if fit not in trained.fit_bytes()}
    assert more == {fit.replace("/", "/repeat-1/") for fit in trained.fit_bytes()}
    assert read_json(repeated.folder / "folds.json") == read_json(trained.folder / "folds.json")


def test_a_repeat_has_folds_seeds_and_keys_of_its_own(repeated: Run):
    config = resolve_config(options_of(repeated, "repeats=3"))
    data = prepare_data(config)
    folds = [data.of_repeat(repeat).fold_of_row for repeat in range(3)]
    minority = data.labels(data.train) == 1
    for one in folds:
        assert sorted(np.bincount(one[minority])) == [4, 4, 4]
    assert len({one.tobytes() for one in folds}) == 3
    fits = fits_of(config, data, config.members)
    for facts in ({fit.seed for fit in fits}, {fit.key for fit in fits}, {fit.path for fit in fits}):
        assert len(facts) == len(fits) == 3 * 16
    meta = read_arrays(repeated.folder / "members" / "cnn" / "repeat-1" / "fold-2.npz")[1]
    assert (meta["repeat"], meta["fold"]) == (1, 2)


def test_groups_never_part_in_any_repeat(repeated: Run):
    config = resolve_config(
        options_of(repeated, "repeats=3", r"group=(train/\w+/\d\d|test/\w+/\d+)", "folds=2")
    )
    data = prepare_data(config)
    groups = np.array([row.group for row in data.train])
    assert len(set(groups)) < len(groups)
    for repeat in range(3):
        fold_of_row = data.of_repeat(repeat).fold_of_row
        for group in set(groups):
            assert len(set(fold_of_row[groups == group])) == 1


# ---- tables


def test_scores_of_a_repeat_and_their_mean(repeated: Run):
    (oof_0, test_0), (oof_1, test_1), (oof, test) = (
        tables_of(repeated, *which) for which in ([0], [1], [0, 1])
    )
    assert (oof_0.fold_of_row != oof_1.fold_of_row).any()
    np.testing.assert_array_equal(oof.fold_of_row, oof_0.fold_of_row)
    assert oof.columns == oof_0.columns
    np.testing.assert_allclose(oof.scores, (oof_0.scores + oof_1.scores) / 2, rtol=1e-6)
    np.testing.assert_allclose(test.scores, (test_0.scores + test_1.scores) / 2, rtol=1e-6)
    names = [column.name for column in oof.columns]
    fold_1 = read_arrays(repeated.folder / "members" / "cnn" / "repeat-1" / "fold-1.npz")[0]["scores"]
    np.testing.assert_array_equal(oof_1.scores[oof_1.fold_of_row == 1, names.index("cnn")], fold_1[:, 0])


# ---- compare


def test_a_comparison_is_the_mean_over_repeats(compared: tuple[Run, Outcome]):
    run, outcome = compared
    opened = state.Run(resolve_config(options_of(run, "repeats=2")))
    assert outcome.json["repeats"] == 2
    assert "means over 2 repeats" in outcome.said
    from ensemble.pipeline import fit_all

    of_repeat = []
    for repeat in (0, 1):
        oof, test = tables_of(run, repeat)
        fitted = fit_all(oof, deployment_prior=12 / 57, threshold_rule="min_hter", seed=0)
        of_repeat.append({row["name"]: row for row in measure_repeats(opened, [(fitted, test)])})
    for row in outcome.json["rows"]:
        for metric in row["intervals"]:
            singles = [one[row["name"]][metric] for one in of_repeat]
            assert row["repeats"][metric] == singles
            assert row[metric] == pytest.approx(np.mean(singles))
        assert len(row["thresholds"]) == 2


def test_what_a_report_needs_lies_beside_the_comparison(compared: tuple[Run, Outcome]):
    run, outcome = compared
    table = pq.read_table(run.folder / "comparison_test.parquet")
    columns = table.to_pydict()
    assert len(columns["path"]) == 2 * 20
    assert columns["repeat"] == [0] * 20 + [1] * 20
    assert columns["path"][:20] == columns["path"][20:]
    thresholds = json.loads(table.schema.metadata[b"thresholds"])
    minority = np.array(columns["label"]) == "odd"
    for row in outcome.json["rows"]:
        p = np.array(columns[f"p_{row['name']}"]).reshape(2, 20)
        assert thresholds[row["name"]] == row["thresholds"]
        hits = [p[r][minority[:20]] >= row["thresholds"][r] for r in (0, 1)]
        assert row["recall"] == pytest.approx(np.mean(hits))


def test_figures_as_parquet_and_text(compared: tuple[Run, Outcome]):
    run, outcome = compared
    flat = {
        (one["name"], one["metric"]): one
        for one in pq.read_table(run.folder / "comparison.parquet").to_pylist()
    }
    for row in outcome.json["rows"]:
        for metric, interval in row["intervals"].items():
            one = flat.pop((row["name"], metric))
            assert (one["value"], [one["low"], one["high"]]) == (row[metric], interval)
            difference = [one["minus_baseline"], one["minus_baseline_low"], one["minus_baseline_high"]]
            assert difference == row["minus_baseline"][metric]
            assert one["p_value"] == row["p_values"][metric]
            judged = metric == "average_precision"
            assert one["adjusted_p"] == (row["adjusted_p"] if judged else None)
            assert one["verdict"] == (row["verdict"] if judged else None)
    assert not flat
    with (run.runs / "figures.csv").open(newline="") as handle:
        text = list(csv.DictReader(handle))
    assert len(text) == 9 * len(outcome.json["rows"])
    assert float(text[0]["value"]) == outcome.json["rows"][0][text[0]["metric"]]


def test_the_page_has_tables_and_the_command_that_makes_them(compared: tuple[Run, Outcome]):
    run, outcome = compared
    page = (run.runs / "page.md").read_text()
    assert f"cli.py compare {run.dataset}" in page
    assert f"--recipe {run.recipe}" in page
    assert "-o repeats=2" in page
    lines = page.splitlines()
    for heading in ("AUROC", "HTER", "G-mean", "Brier", "ECE", "adjusted p", "verdict"):
        assert any(heading in line for line in lines)
    for row in outcome.json["rows"]:
        low, high = row["intervals"]["f1"]
        (values, verdicts) = (line for line in lines if line.startswith(f"| {row['name']} |"))
        assert f"{row['f1']:.3f} ({low:.3f} to {high:.3f})" in values
        assert f"| {row['verdict'] or 'the baseline'} |" in verdicts


def test_a_folder_is_no_file_for_figures(repeated: Run, tmp_path: Path):
    for option in ("--csv", "--markdown"):
        outcome = repeated.command("compare", option, tmp_path)
        assert outcome.code == 2
        assert f"{option} {tmp_path}: that is a folder." in outcome.said


# ---- the shipped ensemble


def test_the_first_repeat_is_shipped_as_ever(fitted: tuple[Run, Outcome], tmp_path: Path):
    run = fitted[0].copy(tmp_path)
    outcome = run.command("ensemble", *REPEATS, "--json")
    assert outcome.code == 0, outcome.err
    assert "Nothing to do" in outcome.said
    assert outcome.json == fitted[1].json


def test_repeats_vote_in_the_exported_file(repeated: Run, tmp_path: Path):
    run = repeated.copy(tmp_path)
    # Two of the four members say as much, and every one is exported twice here.
    two = ("members.deep_svdd=false", "members.cnn_weighted=false")
    options = (*REPEATS, *(word for each in two for word in ("-o", each)))
    vote = (*options, "-o", "select=vote")
    outcome = run.command("ensemble", *vote, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["selection"] == {"select": "vote", "repeats": [0, 1], "figures": []}
    assert "mean over 2 repeats" in outcome.said
    model = load_model(run.folder / "model.onnx")
    held_out = pq.read_table(run.folder / "test.parquet").to_pydict()
    _, test = ComparedRun.open(options_of(run, "repeats=2", *two)).tables_of((0, 1))
    config = resolve_config(options_of(run))
    images = np.stack([decode_file(run.dataset / path, config.decode).pixels for path in held_out["path"]])
    scored = model.run(images, with_maps=True)
    np.testing.assert_allclose(scored.member_scores, test.scores, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(scored.probability, held_out["probability"], atol=1e-4)
    assert scored.anomaly_map is not None
    again = run.command("export", *vote, "--output", tmp_path / "again.onnx", "--json")
    assert again.code == 0, again.err
    # Another rule is another ensemble.
    assert run.command("export", *options).code == 5


def test_the_best_repeat_is_shipped(repeated: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from workflow.ensembling import repeats as selection

    run = repeated.copy(tmp_path)
    figures: Callable[..., float] = iter([0.3, 0.2]).__next__
    monkeypatch.setattr(selection, "out_of_fold_figure", lambda *_: figures())
    outcome = run.command("ensemble", *REPEATS, "-o", "select=best", "-o", "select_by=hter", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["selection"] == {"select": "best", "repeats": [1], "figures": [0.3, 0.2]}
    assert "repeat 2 of 2, whose out-of-fold hter is best: 0.3000, 0.2000" in outcome.said
    final = read_arrays(run.folder / "members" / "cnn" / "repeat-1" / "final.npz")[0]["scores"]
    held_out = pq.read_table(run.folder / "test.parquet").to_pydict()
    assert held_out["score_cnn"] == final[:, 0].tolist()
    assert FINAL == -1


def test_selection_is_by_development_rows_alone(repeated: Run):
    from workflow.ensembling.repeats import select_repeats

    run = state.Run.open(options_of(repeated, "repeats=2", "select=best"))
    before = select_repeats(run)
    for fit, result in run.results.items():
        if fit.fold == FINAL:
            result.scores[:] = result.scores[::-1].copy()
    assert select_repeats(run) == before
    assert len(before.figures) == 2


def test_untrained_repeats_are_asked_for(trained: Run):
    outcome = trained.command("ensemble", *REPEATS, "-o", "select=vote")
    assert outcome.code == 5
    assert "-o repeats=2 -o select=vote" in outcome.said
    assert "train-all" in outcome.said
