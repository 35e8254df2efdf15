"""Published protocols: which images train and which are judged, and the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.few_labels import protocols
from benchmarks.few_labels.protocols import LABELLED, ProtocolsBench, bench_protocols, draws_of
from benchmarks.few_labels.sets import PLANS, LabelledSet, SetPlan, load_set
from contracts.errors import DataError
from tests.pictures import write_pictures

MEMBERS = ("mahalanobis", "cnn")
SMALL = ("folds=3", "backbone={name: test_efficientnet, weights: random, image_size: 64}")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    write_pictures(tree / "part" / "train" / "good", 30, odd=False, seed=1)
    write_pictures(tree / "part" / "test" / "good", 12, odd=False, seed=2)
    write_pictures(tree / "part" / "test" / "spot", 22, odd=True, seed=3)
    return tree


@pytest.fixture(scope="module")
def part(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    plan = replace(protocols._categories(tree)[0], overrides=SMALL)
    found = load_set(plan, tree, tmp_path_factory.mktemp("cache"), MEMBERS)
    assert found is not None
    return found


def test_a_tree_trains_on_its_training_folder_and_ten_anomalies_move(part):
    (none, without), (ten, with_labels) = draws_of("tree", part, 0)
    assert (none, ten) == (0, LABELLED)
    for draw in (without, with_labels):
        assert all(part.rows[i].path.startswith("train/good/") for i in draw.majority)
        assert len(draw.majority) == 30
        trained = {*draw.majority.tolist(), *draw.candidates.tolist()}
        assert not trained & set(draw.test.tolist())
    assert len(without.test) == 12 + 22
    assert len(with_labels.test) == 12 + 22 - LABELLED
    assert part.labels[with_labels.candidates].tolist() == [1] * LABELLED


def test_elpv_trains_on_three_quarters_of_the_normal_cells(part):
    (_, without), (_, with_labels) = draws_of("elpv", part, 0)
    assert np.array_equal(without.majority, with_labels.majority)
    assert len(with_labels.majority) == 32  # of 42, rounded
    assert len(with_labels.test) == 10 + 22 - LABELLED
    (_, other), _ = draws_of("elpv", part, 1)
    assert not np.array_equal(other.majority, without.majority)


def test_the_page_has_every_set_with_and_without_labels(tree, tmp_path, monkeypatch):
    # A set that is not there is skipped with a sentence.
    monkeypatch.setitem(PLANS, "elpv", SetPlan("elpv", "elpv", "defective", folder=True))
    plans = [replace(plan, overrides=SMALL) for plan in protocols._categories(tree)]
    monkeypatch.setattr(protocols, "_categories", lambda _: plans)
    document = bench_protocols(ProtocolsBench(tree, tmp_path, 2, MEMBERS, tmp_path / "page.md"))
    none, ten = document["protocols"]
    assert (none["labels"], ten["labels"]) == (0, LABELLED)
    assert [len(each["auroc"]["ensemble"]) for each in (none, ten)] == [1, 2]
    assert "supervised baseline" not in none["auroc"]
    page = (tmp_path / "page.md").read_text()
    assert f"| part | 0 | 30 | 12 + 22 | {none['auroc']['ensemble'][0]:.3f} |" in page
    assert f"{np.mean(ten['auroc']['ensemble']):.3f} ± " in page


def test_a_directory_without_categories_is_refused(tmp_path):
    with pytest.raises(DataError, match="none of its folders has train/good"):
        protocols._categories(tmp_path)
