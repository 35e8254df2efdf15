"""Maps of several members in all that shows them: localise, report, explain, inspect and score.

What ``report`` shows of ``localise`` is nothing without masks, the command before, its figures after.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.errors import DataError
from contracts.files import read_json, write_json
from export.scoring.model import load_model
from features.rows import read_pixels
from reporting.pictures import outlined
from tests.conftest import Outcome, Run, run_command
from tests.defects import KINDS, write_mvtec_tree
from tests.pages import Page
from workflow.pages.localisation import localised
from workflow.run import state
from workflow.run.fits import FINAL, usual_map_values
from workflow.settings.config import RunOptions

RECIPE = """\
name: few
folds: 2
bootstrap: 100
backbone: {name: test_efficientnet, weights: random, image_size: 64}
members:
  patchcore: {bank_size: 40, candidate_patches: 200, pca_dim: 8}
  subspace: {}
  patch_head: {bank_patches: 20, least_steps: 5, epochs: 1, hidden: 4}
  cnn: {max_iterations: 3}
"""


MEMBERS = ("patchcore", "subspace", "patch_head")
"""Those that have maps."""


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
    assert (measured["map_of"], measured["fpr_limit"]) == ("patchcore, subspace, patch_head", 0.3)
    assert "which is that of patchcore, subspace, patch_head together" in page.text
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


def test_each_map_is_measured_and_all_together(measured, finished):
    assert [each["map"] for each in measured["maps"]] == ["together", *MEMBERS]
    assert measured["maps"][0]["kinds"] == measured["kinds"]
    of_all = [each["kinds"][0] for each in measured["maps"]]
    assert len({of["pixel_auroc"]["value"] for of in of_all}) == len(of_all)
    page = finished.page()
    for each in measured["maps"]:
        figures = (each["kinds"][0]["pixel_auroc"], each["kinds"][0]["pro"])
        cells = [f"{of['value']:.3f} {of['low']:.3f}–{of['high']:.3f}" for of in figures]
        assert " ".join([each["map"], *cells]) in page.text


def test_explain_shows_each_map_and_all_together(finished, tmp_path):
    run = state.Run.open(finished.options)
    rows = [row for row in run.data.test if row.mask][:2]
    paths = [run.data.file_of(row) for row in rows]
    document = run_command(
        "explain", "mvtec_tile", *paths, "--output", tmp_path, "--json",
        "--data", finished.data, "--recipe", finished.recipe, "--runs", finished.runs,
    ).json  # fmt: skip
    pixels = read_pixels(paths, run.config.decode)
    of_file = load_model(run.model).run(pixels, with_maps=True)
    expected = {"together": of_file.anomaly_map, **of_file.maps}
    for number, image in enumerate(document["images"]):
        assert [each["map"] for each in image["maps"]] == ["together", *sorted(MEMBERS, key=weights(run))]
        assert image["map"]["member"] == "patchcore"  # it can name the patches that it decided by
        for each in image["maps"]:
            # The members that the run holds see what the exported file sees.
            heat = expected[each["map"]][number]
            assert each["largest"] == pytest.approx(heat.max(), rel=1e-2, abs=1e-2)
            assert each["usual"]["half"] < each["usual"]["most"]
            assert each["unit"] == {"together": None, "patch_head": "logit"}.get(each["map"], "distance")
        with Image.open(image["picture"]) as picture:
            assert picture.height == pytest.approx(110 * (0.55 + 3.3 + 3.1 + 3 * 2.25), abs=1)


def weights(run):
    """Members that can name patches come first, then by weight."""
    weight = np.abs(run.fitted.combination.weights).max(axis=1)
    of = {column.member: weight[i] for i, column in enumerate(run.fitted.columns)}
    return lambda name: (name != "patchcore", -of[name])


def test_usual_values_are_those_of_images_that_the_folds_held_out(finished):
    run = state.Run.open(finished.options)
    usual = usual_map_values(run.results, [0])
    assert list(usual) == list(MEMBERS)
    document = load_model(run.model).document["maps"]
    assert document == {name: {"half": low, "most": high} for name, (low, high) in usual.items()}
    for fit, result in run.results.items():
        has_map = fit.member.name in MEMBERS and fit.fold != FINAL
        assert (result.normal_map is not None) == has_map
        if has_map:
            assert (np.diff(result.normal_map) >= 0).all()
    # On normal images that nobody saw: the median near 0, and few values above 1.
    good = [run.data.file_of(row) for row in run.data.test if not row.mask]
    heat = load_model(run.model).run(read_pixels(good, run.config.decode), with_maps=True).anomaly_map
    assert abs(np.median(heat)) < 0.3
    assert (heat > 1).mean() < 0.05


def test_inspect_names_the_maps(finished):
    model = finished.folder / "model.onnx"
    outcome = run_command("inspect", model, "--json")
    assert outcome.json["maps"] == {
        "anomaly_map": list(MEMBERS),
        **{f"map_{name}": [name] for name in MEMBERS},
    }
    assert "Maps: anomaly_map (patchcore, subspace, patch_head together; 0 is a typical patch" in outcome.said
    assert "map_patchcore, map_subspace, map_patch_head." in outcome.said


def test_score_draws_the_map_that_is_asked_for(finished, tmp_path):
    model, images = finished.folder / "model.onnx", finished.data / "mvtec" / "tile" / "test" / "spot"
    drawn = {}
    for name in ("", "subspace", "patch_head"):
        chosen = ("--map", name) if name else ()
        output = tmp_path / f"scores-{name}"
        outcome = run_command(
            "score", model, images, "--output", output, "--heat-maps", 2, *chosen, "--processes", 1
        )
        assert outcome.code == 0, outcome.err
        drawn[name] = sorted((output / "_heat_maps").glob("0001-*.png"))[0].read_bytes()
    assert len(set(drawn.values())) == 3
    outcome = run_command(
        "score", model, images, "--output", tmp_path / "x", "--heat-maps", 1, "--map", "pathc_head"
    )
    assert outcome.code == 2
    assert (
        "has no such map. Did you mean 'patch_head'? It has: patchcore, subspace, patch_head." in outcome.said
    )
    outcome = run_command("score", model, images, "--output", tmp_path / "x", "--map", "subspace")
    assert outcome.code == 2
    assert "no map is drawn. Give --heat-maps N as well." in outcome.said


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
