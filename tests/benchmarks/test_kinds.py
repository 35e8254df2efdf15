"""Leave one kind out: which images are trained on, what is judged, and what the page says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.few_labels.draws import draw_of
from benchmarks.few_labels.fits import FewLabels
from benchmarks.few_labels.sets import KIND_PLANS, SetPlan, load_set
from benchmarks.kinds.judge import ENSEMBLE, WAYS
from benchmarks.kinds.run import KindsBench, bench_kinds
from tests.pictures import write_pictures

MEMBERS = ("mahalanobis", "cnn")


@pytest.fixture(scope="module")
def plan() -> SetPlan:
    return SetPlan(
        "parts:good",
        "parts",
        "spot",
        ("folds=3", "backbone={name: test_efficientnet, weights: random, image_size: 64}"),
        folder=True,
        majority="good",
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    write_pictures(data / "parts" / "good", 40, odd=False, seed=1)
    write_pictures(data / "parts" / "spot", 16, odd=True, seed=2)
    write_pictures(data / "parts" / "stain", 15, odd=True, seed=3)
    return data


def test_a_problem_without_a_kind_trains_on_none_of_its_images(plan, data, tmp_path):
    of = load_set(plan, data, tmp_path, MEMBERS)
    assert of is not None
    assert {row.subtype for row, label in zip(of.rows, of.labels, strict=True) if label} == {"spot", "stain"}
    draw = draw_of(of.labels, of.groups, 12, 0)
    whole, without = FewLabels.make(of, draw, 12), FewLabels.make(of, draw, 12, "spot")
    kinds = [of.rows[i].subtype for i in without.train]
    assert "spot" not in kinds
    assert set(without.train) | {i for i in whole.train if of.rows[i].subtype == "spot"} == set(whole.train)
    # One-class members are the same where the majority's folds are.
    n = len(draw.majority)
    assert (whole.fold_of_row[:n] == without.fold_of_row[:n]).all()


def test_every_way_is_judged_and_a_second_call_fits_nothing(plan, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(KIND_PLANS, plan.name, plan)
    bench = KindsBench(data, tmp_path, (plan.name,), 1, (12,), MEMBERS, tmp_path / "page.md")
    document = bench_kinds(bench)
    assert document["kinds"] == 2
    assert set(document["ways"]) == set(WAYS)
    assert "parts-good-d0-n12-without-spot, cnn" in capsys.readouterr().err
    page = (tmp_path / "page.md").read_text()
    assert f"| **{ENSEMBLE}** | {document['ways'][ENSEMBLE]['seen']['auroc']:.4f} |" in page
    assert bench_kinds(bench) == document
    assert ", cnn\n" not in capsys.readouterr().err
