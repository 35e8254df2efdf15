"""``explore`` as users call it: pictures, one page, names that are no markup, and a run's probabilities."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from contracts.files import read_json, write_json
from ensemble.fitted import FittedEnsemble
from imagedata.manifest import Manifest
from tests.conftest import TINY_RECIPE, run_command
from tests.hostile import truncated
from tests.imagedata.trees import idc_tree, manifest_of, mvtec_tree, spec_of
from tests.pages import Page, measure_in_browser
from tests.pictures import write_pictures, write_two_classes
from workflow.exploring.embedding_map import MAP_ROWS, _chosen
from workflow.exploring.pictures import Album
from workflow.exploring.slides import choose_slides, predictions_of, slides_of
from workflow.settings.config import RunOptions, resolve_config

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """The tree of patches after ``explore --json``, with a broken patch and one of another size."""
    folder = tmp_path_factory.mktemp("explored")
    root = idc_tree(folder / "data" / "idc")
    patches = sorted(root.rglob("*_class0.png"))
    patches[3].write_bytes(truncated("PNG"))
    Image.fromarray(np.full((7 + 5, 9, 3), 90, np.uint8)).save(patches[4])
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY_RECIPE)
    options = (
        "--data",
        folder / "data",
        "--runs",
        folder / "runs",
        "--recipe",
        recipe,
        "-o",
        "test_share=0.2",
    )
    before = {path: path.read_bytes() for path in root.rglob("*.png")}
    outcome = run_command("explore", "idc", *options, "--slides", 3, "--json")
    assert outcome.code == 0, outcome.err
    assert {path: path.read_bytes() for path in root.rglob("*.png")} == before
    return folder / "runs" / "explored" / "idc", outcome


def test_counts_groups_and_files(explored):
    folder, outcome = explored
    document = outcome.json
    assert sum(row["train"] + row["test"] + row["broken"] for row in document["counts"]) == 80
    assert [row["broken"] for row in document["counts"]] == [1, 0]
    assert document["counts"][1] | {"train": 0, "test": 0} == {
        "label": "carcinoma", "is_minority": True, "train": 0, "test": 0, "broken": 0, "excluded": 0,
        "dropped": 0,
    }  # fmt: skip
    assert document["groups"]["number"] == 8
    assert len(document["slides"]) == 3
    assert {slide["split"] for slide in document["slides"]} == {"training", "held out"}
    assert document["page"] == str(folder / "explore.html")
    assert document["bytes"] == (folder / "explore.html").stat().st_size < 15_000_000
    assert {path.name for path in folder.iterdir()} == {*document["pictures"], "explore.html"}
    assert len(document["outliers"]) == 16
    assert "Broken images, which are skipped: 1" in outcome.said


def test_page_stands_for_itself(explored):
    page = Page((explored[0] / "explore.html").read_text())
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) >= 2 + 2 + 16 + 3
    for attributes in images:
        assert attributes["src"].startswith("data:image/")
        assert attributes["alt"]
    ids = {attributes.get("id") for _, attributes in page.tags}
    for tag, attributes in page.tags:
        if tag == "a":
            assert attributes["href"].removeprefix("#") in ids
    assert "Nothing is trained with recipe tiny yet" in page.text
    assert "Groups with images in both splits: 0" in page.text


def test_page_fits_wide_and_narrow_windows(explored, tmp_path):
    measured = measure_in_browser(explored[0] / "explore.html", tmp_path)
    assert set(measured) == {1280, 390}
    for found in measured.values():
        assert found["scroll"] == found["edge"]
        assert found["beyond"] == "0"
        assert found["dead"] == "0"


def test_same_seed_same_pictures(explored, tmp_path):
    folder, outcome = explored
    data, runs = folder.parents[2] / "data", folder.parents[1]
    options = ("--data", data, "--runs", runs, "--recipe", folder.parents[2] / "tiny.yaml", "--slides", 3)
    options += ("-o", "test_share=0.2")
    again = run_command("explore", "idc", *options, "--output", tmp_path / "again", "--json")
    assert again.code == 0
    for name in [*outcome.json["pictures"], "explore.html"]:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_hostile_names_are_text(tmp_path):
    root = write_two_classes(tmp_path / "data" / "names", 14, 6)
    for number, path in enumerate(sorted((root / "odd").iterdir())):
        path.rename(path.with_name((f"{HOSTILE}{number}.png", f"\x1b[31m{number}.png")[number % 2]))
    (root / "odd").rename(root / "<b>odd")
    (root / "fine" / "half.png").write_bytes(truncated("PNG"))
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY_RECIPE)
    outcome = run_command("explore", root, "--runs", tmp_path / "runs", "--recipe", recipe, "--json")
    assert outcome.code == 0, outcome.err
    assert "\x1b[31m" not in outcome.err
    text = (tmp_path / "runs" / "explored" / "names" / "explore.html").read_text()
    assert HOSTILE not in text
    assert "<b>odd" not in text
    assert "\x1b" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert not [name for tag, attributes in Page(text).tags for name in attributes if name.startswith("on")]
    assert all(name.isascii() and "<" not in name for name in outcome.json["pictures"])


def test_three_classes_without_a_map(tmp_path):
    root = write_two_classes(tmp_path / "three", 12, 6)
    shutil.copytree(root / "fine", root / "third")
    for path in (root / "third").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    outcome = run_command(
        "explore", root, "--minority", "odd", "--runs", tmp_path / "runs", "--no-map", "--json"
    )
    assert outcome.code == 0, outcome.err
    assert len([name for name in outcome.json["pictures"] if name.startswith("sheet-")]) == 3
    assert outcome.json["outliers"] == []
    assert not (tmp_path / "runs" / "features").exists()


def test_output_that_is_a_file(tiny, tmp_path):
    (tmp_path / "taken").write_text("")
    outcome = tiny.command("explore", "--output", tmp_path / "taken")
    assert outcome.code == 2
    assert "that is a file. Name a folder" in outcome.said


@pytest.fixture(scope="module")
def config_of(fitted):
    run, _ = fitted

    def make(**options):
        return resolve_config(
            RunOptions(dataset=str(run.dataset), recipe=str(run.recipe), runs=run.runs, **options)
        )

    return make


def test_probabilities_are_those_of_the_run(fitted, config_of):
    run, _ = fitted
    manifest = Manifest.read(run.folder / "manifest.parquet")
    found, sentence = predictions_of(config_of(), manifest)
    assert "did not see the image's fold" in sentence
    held_out = pq.read_table(run.folder / "test.parquet").to_pylist()
    for row in held_out:
        assert found.probability[row["path"]] == row["probability"]
        assert found.is_flagged[row["path"]] == (row["decision"] == "odd")
    oof = pq.read_table(run.folder / "oof.parquet").to_pylist()
    ensemble = FittedEnsemble.from_json(read_json(run.folder / "ensemble.json"))
    row = oof[7]
    scores = np.array([[row[f"score_{column.name}"] for column in ensemble.columns]])
    assert found.probability[row["path"]] == pytest.approx(float(ensemble.minority_probability(scores)[0]))
    assert len(found.probability) == len(held_out) + len(oof)


def test_a_run_of_other_rows_or_half_a_run_is_not_shown(fitted, config_of, tmp_path):
    run = fitted[0].copy(tmp_path)
    config = resolve_config(RunOptions(dataset=str(run.dataset), recipe=str(run.recipe), runs=run.runs))
    manifest = Manifest.read(run.folder / "manifest.parquet")
    fewer = Manifest(manifest.dataset, manifest.root, manifest.class_names, manifest.rows[1:])
    assert "is of other rows than these" in predictions_of(config, fewer)[1]
    write_json(run.folder / "ensemble.json", {"format": "of another version"})
    found, sentence = predictions_of(config, manifest)
    assert found is None
    assert "are not whole" in sentence
    assert "cli.py ensemble" in sentence


def test_slides_hold_every_patch_of_a_patient(tmp_path):
    idc_tree(tmp_path / "idc", patients=6)
    manifest = manifest_of(spec_of("idc").model_copy(update={"test_share": 0.2}), tmp_path)
    slides = slides_of(manifest, has_group_rule=True)
    assert list(slides) == [str(10253 + i) for i in range(6)]
    assert sum(map(len, slides.values())) == len(manifest.rows)
    by_name = slides_of(manifest, has_group_rule=False)
    assert list(by_name) == [f"{10253 + i}_idx5" for i in range(6)]
    chosen = choose_slides(slides, "carcinoma", 0, 4)
    assert chosen == choose_slides(slides, "carcinoma", 0, 4)
    held_out = {row.group for row in manifest.usable("test")}
    assert 1 <= sum(name in held_out for name in chosen) <= 2
    assert len(choose_slides(slides, "carcinoma", 0, 100)) == 6
    assert choose_slides(slides, "carcinoma", 0, 0) == []


def test_slides_beyond_the_budget_lie_beside_the_page(explored, tmp_path, monkeypatch):
    data, recipe = explored[0].parents[2] / "data", explored[0].parents[2] / "tiny.yaml"
    monkeypatch.setattr("workflow.exploring.explore._SLIDE_BUDGET", 10_000)
    options = ("--data", data, "--runs", tmp_path, "--recipe", recipe, "--no-map", "--json")
    outcome = run_command("explore", "idc", *options)
    assert outcome.code == 0
    text = (tmp_path / "explored" / "idc" / "explore.html").read_text()
    n_shown = text.count('alt="Slide ')
    assert 0 <= n_shown < 8 == len([name for name in outcome.json["pictures"] if "labels" in name])
    assert f"{8 - n_shown} more would make the page too large and lie beside it" in text


def test_masks_are_outlined_around_the_anomaly(tmp_path):
    root = mvtec_tree(tmp_path / "mvtec" / "tile")
    mask = np.zeros((12, 12), dtype=np.uint8)
    mask[4:8, 4:8] = 255
    for path in (root / "ground_truth").rglob("*.png"):
        Image.fromarray(mask).save(path)
    manifest = manifest_of(spec_of("mvtec_tile"), tmp_path)
    row = next(row for row in manifest.rows if row.mask)
    shown, plain = (
        Album(tmp_path, None).thumbnail(manifest, each) for each in (row, replace(row, mask=None))
    )
    changed = (shown != plain).any(axis=2)
    assert shown.shape == (108, 108, 3)
    assert changed[34:36, 40:60].all()
    assert not changed[36:72, 36:72].any()  # nothing of the anomaly is hidden
    assert not changed[:34].any()
    Image.new("L", (12, 12)).save(root / row.mask)
    np.testing.assert_array_equal(Album(tmp_path, None).thumbnail(manifest, row), plain)
    (root / row.path).unlink()
    album = Album(tmp_path, None)
    assert album.thumbnail(manifest, row) is None
    assert list(album.skipped) == [row.path]


def test_large_sets_are_drawn_from(tmp_path):
    idc_tree(tmp_path / "idc", patients=8)
    small = manifest_of(spec_of("idc"), tmp_path)
    assert len(_chosen(small, 0)) == len(small.rows)
    template = small.rows[0]
    rows = tuple(
        replace(template, path=f"{i}", sha256=f"{i}", label=label, status="ok")
        for i, label in enumerate(["benign"] * 6000 + ["carcinoma"] * 100)
    )
    many = Manifest(small.dataset, small.root, small.class_names, rows)
    chosen = _chosen(many, 0)
    assert len(chosen) == MAP_ROWS
    assert sum(row.label == "carcinoma" for row in chosen) == 100
    assert chosen == _chosen(many, 0) != _chosen(many, 1)


@pytest.mark.parametrize("flat", [False, True])
def test_normal_images_and_images_without_labels_are_explored(tmp_path, flat):
    root = tmp_path / "set"
    write_pictures(root if flat else root / "fine", 9, odd=False, seed=0)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY_RECIPE)
    outcome = run_command("explore", root, "--runs", tmp_path / "runs", "--recipe", recipe, "--json")
    assert outcome.code == 0, outcome.err
    text = Page(Path(outcome.json["page"]).read_text()).text
    assert f"9 training images, of which none {'has labels' if flat else 'is of the minority class'}" in text
    assert "None is held out." in text
