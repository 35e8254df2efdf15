"""What ``report`` shows of ``localise``: nothing without masks, the command before, its figures after."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import DataError
from contracts.files import read_json, write_json
from reporting.pictures import outlined
from tests.conftest import Outcome, Run, run_command
from tests.defects import KINDS, write_mvtec_tree
from tests.pages import Page
from workflow.pages.localisation import localised
from workflow.run import state
from workflow.settings.config import RunOptions

RECIPE = """\
name: few
folds: 2
bootstrap: 100
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  patchcore: {bank_size: 40, candidate_patches: 200, pca_dim: 8}
  cnn: {max_iterations: 3}
"""


@dataclass(frozen=True)
class Category:
    """A finished run on a tree with masks."""

    data: Path
    runs: Path
    recipe: Path

    @property
    def options(self) -> RunOptions:
        return RunOptions("mvtec_tile", data=self.data, recipe=str(self.recipe), runs=self.runs)

    @property
    def folder(self) -> Path:
        return self.runs / "mvtec_tile" / "few"

    def command(self, name: str, *arguments: object) -> Outcome:
        options = ("--data", self.data, "--recipe", self.recipe, "--runs", self.runs)
        outcome = run_command(name, "mvtec_tile", *arguments, *options)
        assert outcome.code == 0, outcome.err
        return outcome

    def page(self, *arguments: str) -> Page:
        self.command("report", *arguments)
        return Page((self.folder / "report.html").read_text())

    def localised(self, pictures: bool = True):
        return localised(state.Run.open(self.options), pictures)


@pytest.fixture(scope="module")
def finished(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Category:
    root = tmp_path_factory.mktemp("masks")
    # With the backbone that is exported already, which would take longer than all the rest.
    shutil.copytree(trained.runs / "features", root / "runs" / "features")
    write_mvtec_tree(root / "data", normal=16, held_out=6, defects=6)
    (root / "few.yaml").write_text(RECIPE)
    category = Category(root / "data", root / "runs", root / "few.yaml")
    for name in ("train-all", "ensemble"):
        category.command(name)
    return category


@pytest.fixture(scope="module")
def before(finished: Category) -> Page:
    """The page of the run before ``localise``."""
    return finished.page()


@pytest.fixture(scope="module")
def measured(finished: Category, before: Page) -> dict:
    """The document of ``localise``."""
    return finished.command("localise", "--json").json


def test_before_it_is_measured_the_page_says_with_which_command(before, finished):
    assert "6 test images have masks of the anomaly, but it was not measured" in before.text
    assert f"python cli.py localise mvtec_tile --data {finished.data}" in before.text
    assert "cli.py ensemble" not in before.text
    assert "mask outlined" not in str(before.tags)


def test_the_page_shows_what_was_measured(measured, finished):
    page = finished.page()
    assert measured == read_json(finished.folder / "localisation.json")
    assert (measured["map_of"], measured["fpr_limit"]) == ("patchcore", 0.3)
    assert "which is that of patchcore" in page.text
    assert "up to 30 %" in page.text
    assert "guessing gives 0.15" in page.text
    assert [each["kind"] for each in measured["kinds"]] == ["all", *KINDS]
    for each in measured["kinds"]:
        figures = (each["pixel_auroc"], each["pro"])
        cells = [f"{of['value']:.3f} {of['low']:.3f}–{of['high']:.3f}" for of in figures]
        counts = [each["anomalous"], each["regions"], each["images"] - each["anomalous"]]
        assert " ".join(map(str, [each["kind"], *cells, *counts])) in page.text
    assert "cli.py localise" not in page.text
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    for each in measured["examples"]:
        assert f"{each['path']} with its mask outlined" in alts
        assert f"{each['pixel_auroc']:.3f} {each['path']}" in page.text


def test_examples_are_best_middle_and_worst(measured):
    aurocs = [each["pixel_auroc"] for each in measured["examples"]]
    assert len(aurocs) == 3
    assert aurocs == sorted(aurocs, reverse=True)
    for each in measured["examples"]:
        assert each["mask"] == f"ground_truth/{each['kind']}/{Path(each['path']).stem}_mask.png"


def test_pictures_have_mask_and_map(measured, finished):
    found = finished.localised()
    assert found.masks == 6
    for each in found.pictures:
        assert each.pixels.shape == (64, 64, 3)
        assert each.mask.shape == (64, 64)
        assert 0 < each.mask.mean() < 0.5
        assert np.isfinite(each.heat).all()
    assert finished.localised(pictures=False).pictures == ()


@pytest.mark.parametrize("change", [{"model_sha256": "0" * 64}, {"map_of": None}])
def test_figures_of_another_file_or_form_are_not_shown(measured, finished, change):
    path = finished.folder / "localisation.json"
    kept = path.read_bytes()
    document = {key: value for key, value in {**read_json(path), **change}.items() if value is not None}
    write_json(path, document)
    try:
        found = finished.localised()
    finally:
        path.write_bytes(kept)
    assert found.document is None
    assert [command.split()[2] for command in found.commands] == ["localise"]


def test_without_the_file_the_ensemble_comes_first(measured, finished):
    model = finished.folder / "model.onnx"
    away = model.rename(model.with_suffix(".away"))
    try:
        found = finished.localised()
    finally:
        away.rename(model)
    assert [command.split()[2] for command in found.commands] == ["ensemble", "localise"]


def test_a_mask_that_has_gone_is_named(measured, finished):
    mask = finished.data / "mvtec" / "tile" / measured["examples"][0]["mask"]
    away = mask.rename(mask.with_suffix(".away"))
    try:
        with pytest.raises(DataError, match=rf"{mask}: cannot be read.*run again: python cli\.py localise"):
            finished.localised()
    finally:
        away.rename(mask)


def test_no_section_without_masks(fitted):
    options = RunOptions(str(fitted[0].dataset), recipe=str(fitted[0].recipe), runs=fitted[0].runs)
    assert localised(state.Run.open(options), True) is None


def test_the_line_runs_around_the_mask():
    pixels, mask = np.full((40, 30, 3), 120, dtype=np.uint8), np.zeros((20, 15), dtype=bool)
    mask[5:10, 5:10] = True
    drawn = outlined(pixels, mask)
    changed = (drawn != pixels).any(axis=2)
    assert not changed[10:20, 10:20].any()
    assert changed[8:22, 8:22].sum() == 14 * 14 - 10 * 10
    assert changed.sum() == 14 * 14 - 10 * 10
    assert (pixels == 120).all()
