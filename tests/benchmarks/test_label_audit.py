"""Flip labels: which rows are trained on with which label, and what the page says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.audit.problems import make_flipped
from benchmarks.audit.rankings import WHAT, rankings_of
from benchmarks.audit.run import AuditBench, bench_audit
from benchmarks.few_labels.sets import PLANS, SetPlan
from tests.pictures import write_pictures

MEMBERS = ("mahalanobis", "cnn")
PLAN = SetPlan(
    "parts:spot",
    "parts",
    "spot",
    ("folds=3", "backbone={name: test_efficientnet, weights: random, image_size: 64}"),
    folder=True,
)


def write_parts(data: Path) -> None:
    write_pictures(data / "parts" / "good", 60, odd=False, seed=1)
    write_pictures(data / "parts" / "spot", 20, odd=True, seed=2)


def test_flipped_rows_carry_the_other_label_and_more_flips_hold_the_fewer(tmp_path):
    write_parts(tmp_path)
    few, many = make_flipped([PLAN], tmp_path, tmp_path / "cache", (0.05, 0.25), 1, MEMBERS)
    true = {path: int("spot/" in path) for path in few.oof.row_ids.tolist()}
    flipped = []
    for problem in (few, many):
        ids = problem.oof.row_ids.tolist()
        wrong = np.array([true[path] for path in ids]) != problem.oof.labels
        np.testing.assert_array_equal(wrong, problem.is_wrong)
        assert wrong.sum() == round(problem.share * len(ids))
        assert len(problem.vectors) == len(ids)
        flipped.append({path for path, is_wrong in zip(ids, wrong, strict=True) if is_wrong})
    assert flipped[0] < flipped[1]
    rankings = rankings_of(few)
    assert set(rankings) == set(WHAT)
    assert all(np.isfinite(suspicion).all() for suspicion in rankings.values())


def test_page(tmp_path, monkeypatch):
    write_parts(tmp_path)
    monkeypatch.setitem(PLANS, PLAN.name, PLAN)
    page = tmp_path / "page.md"
    document = bench_audit(AuditBench(tmp_path, tmp_path / "cache", (PLAN.name,), 1, MEMBERS, page))
    assert len(document["found"]) == 3 * 2 * len(WHAT)
    text = page.read_text()
    assert "--members mahalanobis,cnn" in text
    assert "| most that fit | " in text
    assert "| parts:spot | " in text
    assert "1 problems, 1 draw of each set" in text
    assert (
        "The members are `mahalanobis`, `cnn`, on cached features. Of the recipe `quick`, `patchcore`" in text
    )
    assert all(f"**{name}**" in text for name in WHAT)
