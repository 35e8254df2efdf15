"""``compare`` and ``members`` as users call them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome, Run
from workflow.settings.registry import MEMBERS


def test_compare_trains_what_is_missing_and_judges_it(tiny: Run, trained: Run, tmp_path: Path) -> None:
    run = trained.copy(tmp_path)
    (run.folder / "members" / "cnn_weighted" / "fold-1.npz").unlink()
    outcome = run.command("compare", "--members", "cnn_weighted,patchcore", "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert (document["metric"], document["correction"]) == ("average_precision", "Holm")
    rows = {row["name"]: row for row in document["rows"]}
    assert {"calibrated_baseline", "cnn", "cnn_weighted", "patchcore", "ensemble"} <= rows.keys()
    assert "deep_svdd" not in rows
    for name in ("calibrated_baseline", "cnn"):
        assert rows[name]["verdict"] is None
    compared = [row for row in rows.values() if row["verdict"] is not None]
    for row in compared:
        assert row["verdict"] in {"better", "worse", "no difference shown"}
        assert row["p_values"]["average_precision"] <= row["adjusted_p"] <= 1.0
        low, high = row["minus_baseline"]["average_precision"][1:]
        if row["verdict"] != "no difference shown":
            assert low > 0 or high < 0
    assert rows["patchcore"]["train_seconds"] > 0
    assert rows["patchcore"]["score_ms"] > 0
    assert (run.folder / "comparison.json").exists()
    assert (run.folder / "members" / "cnn_weighted" / "fold-1.npz").exists()
    assert "Holm-corrected over" in outcome.said


def test_worth_of_the_oneclass_members_is_the_difference_from_a_run_without_them(
    trained: Run, tmp_path: Path
) -> None:
    run = trained.copy(tmp_path)
    whole = run.command("compare", "--json").json
    alone = run.command("compare", "--members", "cnn,cnn_weighted", "--json").json
    worth = whole["worth_of_oneclass"]
    of_whole, of_alone = (
        next(row for row in document["rows"] if row["name"] == "ensemble") for document in (whole, alone)
    )
    assert worth["members"] == ["patchcore", "deep_svdd"]
    assert worth["ensemble"] == pytest.approx(of_whole["average_precision"])
    assert worth["without"] == pytest.approx(of_alone["average_precision"])
    estimate, low, high = worth["difference"]
    assert estimate == pytest.approx(worth["ensemble"] - worth["without"])
    assert low <= estimate <= high
    assert worth["sentence"].startswith("With the one-class members (patchcore, deep_svdd) the ensemble's")
    assert alone["worth_of_oneclass"] is None


def test_compare_refuses_what_is_not_there(trained: Run) -> None:
    outcome = trained.command("compare", "--members", "patchcor")
    assert outcome.code == 2
    assert "Did you mean 'patchcore'?" in outcome.said
    outcome = trained.command("compare", "--metric", "aurok")
    assert outcome.code == 2
    assert "Did you mean 'auroc'?" in outcome.said
    # Known elsewhere, but no column of the table.
    assert trained.command("compare", "--metric", "specificity").code == 2


def test_members_lists_every_type(command: Callable[..., Outcome]) -> None:
    outcome = command("members", "--json")
    assert outcome.code == 0
    assert [entry["name"] for entry in outcome.json] == list(MEMBERS)
