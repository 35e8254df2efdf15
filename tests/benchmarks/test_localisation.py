"""Made damage is where its mask says, and the page says what was measured."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks.localisation import run
from benchmarks.localisation.page import NOTES, as_markdown, write_page
from benchmarks.localisation.pictures import KINDS, SIDE, write_tree
from contracts.errors import DataError, UsageError
from tests.conftest import run_benchmark


@pytest.mark.parametrize("kind", KINDS)
def test_damage_lies_in_its_mask(kind):
    rng = np.random.default_rng(0)
    picture = rng.uniform(60, 180, (SIDE, SIDE)).astype(np.float32)
    for _ in range(5):
        damaged, mask = KINDS[kind](rng, picture)
        changed = np.abs(damaged - picture) > 1e-3
        assert 0 < mask.mean() < 0.1
        assert changed[mask].mean() > 0.5
        # A stain fades out beyond what is marked.
        assert not changed[~mask].any() or (kind == "stain" and changed[~mask].mean() < 0.05)


def test_a_tree_has_masks_and_follows_from_its_seed(tmp_path):
    def made(name, seed):
        write_tree(None, tmp_path / name, "gravel", seed, normal=2, held_out=1, defects=1)
        files = sorted((tmp_path / name).rglob("*.png"))
        return {file.relative_to(tmp_path / name).as_posix(): file.read_bytes() for file in files}

    files = made("a", 0)
    kinds = [name for kind in KINDS for name in (f"ground_truth/{kind}/000_mask.png", f"test/{kind}/000.png")]
    assert sorted(files) == sorted(["train/good/000.png", "train/good/001.png", "test/good/000.png", *kinds])
    assert made("b", 0) == files
    assert made("c", 1) != files
    mask = np.asarray(Image.open(tmp_path / "a" / "ground_truth" / "blot" / "000_mask.png"))
    assert set(np.unique(mask)) == {0, 255}


def test_sets_that_are_not_there_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"no such set\. Did you mean 'gravel'\?"):
        write_tree(None, tmp_path, "gravl", 0, normal=1, held_out=1, defects=1)
    for data in (None, tmp_path):
        with pytest.raises(DataError, match=r"screws: .*screws_small/train/good"):
            write_tree(data, tmp_path, "screws", 0, normal=1, held_out=1, defects=1)


def test_page_of_what_was_measured(tmp_path, monkeypatch):
    def problem(_bench, name, seed):
        def figures(auroc):
            return {"pixel_auroc": auroc, "pro": auroc - 0.1}

        kinds = {kind: figures(0.9) for kind in KINDS}
        maps = {"together": 0.95 + 0.01 * seed, "patchcore": 0.92, "subspace": 0.9, "patch_head": 0.8}
        return {
            "set": name,
            "seed": seed,
            "damage": list(KINDS),
            "maps": {each: {"kinds": kinds, **figures(auroc)} for each, auroc in maps.items()},
        }

    monkeypatch.setattr(run, "_problem", problem)
    page = tmp_path / "page.md"
    outcome = run_benchmark(
        "localisation", "--sets", "brick,grass", "--draws", 2, "--markdown", page, "--json"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["means"]["pixel_auroc"]["together"] == pytest.approx(0.955)
    assert outcome.json["differences"]["pro"]["patchcore"]["mean"] == pytest.approx(0.035)
    text = page.read_text()
    made = as_markdown(outcome.json, "python -m benchmarks localisation --sets brick,grass --draws 2")
    assert text == f"{made}\n{NOTES}\n\nNothing yet.\n"
    write_page(page, made.replace("brick", "grass"))
    assert page.read_text().endswith(f"{NOTES}\n\nNothing yet.\n")
    assert "| together | 0.955 |  | 0.855 |  | 4 of 4 by PRO |" in text
    assert "| brick | 0.920 / 0.820 | 0.900 / 0.800 | 0.800 / 0.700 | 0.955 / 0.855 |" in text
