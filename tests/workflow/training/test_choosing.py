"""``auto``: chosen on training rows by figures out of fold, kept, and read by every later command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contracts.errors import UsageError
from contracts.files import read_json
from tests.conftest import run_command
from tests.pictures import picture
from workflow.run.prepared import prepare_data
from workflow.settings.chosen import DEFAULTS, left_to_choose, offers_tiles, settled
from workflow.settings.config import RunOptions, resolve_config
from workflow.training import choosing
from workflow.training.choosing import Candidate

RECIPE = """\
name: open
folds: 3
fit: auto
bootstrap: 200
backbone: {name: test_efficientnet, weights: random, image_size: auto}
members:
  patchcore: {bank_size: 60, candidate_patches: 300, pca_dim: 16}
  cnn: {max_iterations: 20}
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Pictures of 48 x 96 in which the blotch of the odd ones lies in the middle, among noise."""
    folder = tmp_path_factory.mktemp("choosing")
    rng = np.random.default_rng(0)
    for split, counts in (("train", (24, 12)), ("test", (6, 6))):
        for name, count in zip(("fine", "odd"), counts, strict=True):
            (folder / "wide" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (48, 96, 3), dtype=np.uint8)
                pixels[:, 24:72] = picture(rng, name == "odd", 48)
                Image.fromarray(pixels).save(folder / "wide" / split / name / f"{number}.png")
    (folder / "open.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    monkeypatch.setattr(choosing, "SIZES", (32, 48, 128))
    monkeypatch.setitem(DEFAULTS, "image_size", 32)


def options_of(folder: Path, *overrides: str) -> RunOptions:
    return RunOptions(
        str(folder / "wide"), recipe=str(folder / "open.yaml"), runs=folder / "runs", overrides=overrides
    )


def test_what_is_chosen_is_kept(wide, tmp_path, monkeypatch):
    """Every command about the run then works with it; other rows or another backbone are another choice."""
    tried = []

    def measured(config, data, fit, size, fit_maker):
        tried.append((fit, size))
        scores = np.random.default_rng(4).normal(size=len(data.train))
        is_minority = np.array([row.label == "odd" for row in data.train])
        return Candidate(fit, size, 1.0, scores + 9.0 * is_minority * (fit == "crop"))

    monkeypatch.setattr(choosing, "_measured", measured)
    options = replace(options_of(wide), runs=tmp_path)
    config = resolve_config(options)
    data = prepare_data(config)
    assert (config.decode.fit, config.decode.size) == ("squeeze", 32)
    chosen = choosing.settle(config, data, None)
    assert (chosen.decode.fit, chosen.decode.size) == ("crop", 32)
    # 128 px would enlarge images of 48 x 96, whose area is that of a square of 68 px.
    assert tried == [("squeeze", 32), ("pad", 32), ("crop", 32), ("crop", 48)]
    assert resolve_config(options).decode == chosen.decode
    assert choosing.settle(resolve_config(options), data, None).decode == chosen.decode
    assert len(tried) == 4
    fewer = replace(data, train=data.train[1:], fold_of_row=data.fold_of_row[1:])
    choosing.settle(resolve_config(options), fewer, None)
    assert len(tried) == 8
    named = resolve_config(replace(options, overrides=("fit=crop", "backbone.image_size=32")))
    assert not named.left_to_choose
    assert named.to_json() == chosen.to_json()
    (chosen.folder / "chosen.json").write_text("{")
    assert resolve_config(options).decode.fit == "squeeze"


@pytest.mark.slow
def test_story(wide, tmp_path):
    """Chosen by training, told with figures, and what every later command works with."""
    common = (wide / "wide", "--recipe", wide / "open.yaml", "--runs", tmp_path / "runs")
    planned = run_command("train-all", *common, "--dry-run", "--json")
    assert "begins with a choice of fit and image_size" in planned.said
    trained = run_command("train-all", *common)
    assert trained.code == 0, trained.err
    document = read_json(tmp_path / "runs" / "wide" / "open" / "chosen.json")
    tried = [(each["fit"], each["image_size"]) for each in document["figures"]]
    assert tried[:3] == [("squeeze", 32), ("pad", 32), ("crop", 32)]
    assert [size for _, size in tried[3:]] == [48]
    assert document["sentence"] in trained.said
    values = document["values"]
    assert (values["fit"], values["image_size"]) in tried
    config = resolve_config(replace(options_of(wide), runs=tmp_path / "runs"))
    assert (config.decode.fit, config.decode.size) == (values["fit"], values["image_size"])
    again = run_command("train-all", *common, "--json")
    assert again.json["fits_run"] == 0
    assert document == read_json(tmp_path / "runs" / "wide" / "open" / "chosen.json")
    named = run_command(
        "train-all", *common, "--json",
        "-o", f"fit={values['fit']}", "-o", f"backbone.image_size={values['image_size']}",
    )  # fmt: skip
    assert named.json["fits_run"] == 0


def test_only_training_rows_are_looked_at(wide, monkeypatch):
    config = resolve_config(options_of(wide))
    data = prepare_data(config)
    seen = []

    def measured(config, data, fit, size, fit_maker):
        assert not data.augmented
        seen.extend(row.split for row in data.train)
        return Candidate(fit, size, 1.0, np.arange(len(data.train), dtype=float))

    monkeypatch.setattr(choosing, "_measured", measured)
    document = choosing._chosen(config, data, None)
    assert set(seen) == {"train"}
    # All alike: the first of them, which costs the least.
    assert document["values"] == {"fit": "squeeze", "image_size": 32}


def test_the_cheapest_within_one_standard_error_is_taken(wide):
    data = prepare_data(resolve_config(options_of(wide)))
    is_minority = np.array([row.label == "odd" for row in data.train])
    rng = np.random.default_rng(5)
    weak = is_minority + rng.normal(size=len(is_minority))
    strong = 9.0 * is_minority + rng.normal(size=len(is_minority))
    taken, figures = choosing._cheapest(
        [Candidate("squeeze", 32, 1.0, weak), Candidate("squeeze", 48, 2.0, strong)], data, 0
    )
    assert taken.image_size == 48
    assert figures[1]["minus_first"][1] > 0
    # Better, but by less than noise of this size makes.
    better = weak + 0.1 * is_minority + rng.normal(0.0, 0.5, len(is_minority))
    taken, figures = choosing._cheapest(
        [Candidate("squeeze", 32, 1.0, weak), Candidate("squeeze", 48, 2.0, better)], data, 0
    )
    assert 0 < figures[1]["minus_first"][0] < figures[0]["standard_error_to_best"]
    assert taken.image_size == 32


def test_budget(wide, monkeypatch):
    config = resolve_config(options_of(wide, "ms_per_image=3"))
    data = prepare_data(config)

    def measured(config, data, fit, size, fit_maker):
        is_minority = np.array([row.label == "odd" for row in data.train])
        noise = np.random.default_rng(3).normal(size=len(is_minority))
        return Candidate(fit, size, size / 10.0, noise + 9.0 * is_minority * (size == 48))

    monkeypatch.setattr(choosing, "_measured", measured)
    with pytest.raises(UsageError, match=r"ms_per_image=3: at 32 px, the least size, .* takes 3\.2 ms"):
        choosing._chosen(config, data, None)
    for budget, size in ((4.0, 32), (5.0, 48)):
        recipe = config.recipe.model_copy(update={"ms_per_image": budget})
        chosen = choosing._chosen(replace(config, recipe=recipe), data, None)
        assert chosen["values"]["image_size"] == size


def tiles_that_tell(tried):
    """In place of a measurement: only with two tiles per side the minority is seen, at 10 ms each."""

    def measured(config, data, fit, size, fit_maker):
        backbone = config.recipe.backbone
        assert config.decode.size == backbone.tiles * backbone.image_size
        tried.append((size, backbone.tiles))
        is_minority = np.array([row.label == "odd" for row in data.train])
        noise = np.random.default_rng(3).normal(size=len(is_minority))
        told = noise + 9.0 * is_minority * (backbone.tiles == 2)
        return Candidate(fit, size, 10.0 * backbone.tiles**2, told, backbone.tiles)

    return measured


@pytest.fixture
def large(monkeypatch):
    """Pictures of 48 x 96 count as large; three tiles would enlarge them."""
    monkeypatch.setattr(choosing, "LARGE", 60)
    monkeypatch.setattr(choosing, "TILED", ((32, 2), (32, 3)))


def test_large_pictures_are_tried_in_tiles(wide, tmp_path, monkeypatch, large):
    tried = []
    monkeypatch.setattr(choosing, "_measured", tiles_that_tell(tried))
    options = replace(options_of(wide, "fit=squeeze"), runs=tmp_path)
    config = resolve_config(options)
    data = prepare_data(config)
    chosen = choosing.settle(config, data, None)
    assert tried == [(32, 1), (48, 1), (32, 2)]
    assert (chosen.recipe.backbone.image_size, chosen.recipe.backbone.tiles) == (32, 2)
    assert chosen.decode.size == 64
    assert all(plan.backbone.tiles == 2 for plan in chosen.members)
    document = read_json(chosen.folder / "chosen.json")
    assert document["values"] == {"image_size": 32, "tiles": 2}
    assert [each["tiles"] for each in document["figures"]] == [1, 1, 2]
    assert "squeeze, 2 x 2 tiles of 32 px" in document["sentence"]
    # Every later command reads it, and nothing is measured again.
    assert resolve_config(options).decode == chosen.decode
    choosing.settle(resolve_config(options), data, None)
    assert len(tried) == 3
    named = resolve_config(replace(options, overrides=("fit=squeeze", "backbone={image_size: 32, tiles: 2}")))
    assert named.decode == chosen.decode


def test_tiles_beyond_the_budget_are_told_and_not_measured(wide, monkeypatch, large):
    monkeypatch.setattr(choosing, "TILED", ((32, 2), (36, 2)))
    for budget, taken in ((30.0, 1), (50.0, 2)):
        tried = []
        monkeypatch.setattr(choosing, "_measured", tiles_that_tell(tried))
        monkeypatch.setattr(choosing, "milliseconds", lambda config, size: 40.0 if size == 32 else 55.55)
        config = resolve_config(options_of(wide, "fit=squeeze", f"ms_per_image={budget}"))
        chosen = choosing._chosen(config, prepare_data(config), None)
        assert chosen["values"].get("tiles", 1) == taken
        assert [size for size in tried if size[1] > 1] == [(32, 2)][: taken - 1]
        said = (
            "Not tried: 2 x 2 tiles of 32 px, whose 40.0 ms per image are more than ms_per_image=30"
            if taken == 1
            else "Not tried: 2 x 2 tiles of 36 px, whose 55.5 ms per image are more than ms_per_image=50"
        )
        assert said in chosen["sentence"]


def test_tiles_that_are_stated_are_not_chosen(wide, tmp_path, monkeypatch, large):
    """Sizes are then those of a tile, of which so many make up the picture."""
    tried = []
    monkeypatch.setattr(choosing, "_measured", tiles_that_tell(tried))
    options = replace(options_of(wide, "fit=squeeze"), runs=tmp_path)
    open_ = resolve_config(options)
    data = prepare_data(open_)
    choosing.settle(open_, data, None)
    for tiles, sizes in ((1, [(32, 1), (48, 1)]), (2, [(32, 2)])):
        tried.clear()
        stated = resolve_config(replace(options, overrides=("fit=squeeze", f"backbone.tiles={tiles}")))
        assert not stated.offers_tiles
        # What was chosen with other tiles does not count.
        assert stated.recipe.backbone.tiles == tiles
        chosen = choosing.settle(stated, data, None)
        assert tried == (sizes if len(sizes) > 1 else [])
        assert chosen.recipe.backbone.tiles == tiles


@pytest.mark.slow
def test_story_of_large_pictures(wide, tmp_path, large):
    """Measured, told, trained and exported in tiles or not, whichever was taken."""
    common = (wide / "wide", "--recipe", wide / "open.yaml", "--runs", tmp_path / "runs", "-o", "fit=squeeze")
    trained = run_command("train-all", *common)
    assert trained.code == 0, trained.err
    document = read_json(tmp_path / "runs" / "wide" / "open" / "chosen.json")
    assert document["sentence"] in trained.said
    assert [(each["image_size"], each["tiles"]) for each in document["figures"]] == [
        (32, 1),
        (48, 1),
        (32, 2),
    ]
    assert all(each["ms"] > 0 for each in document["figures"])
    finished = run_command("ensemble", *common)
    assert finished.code == 0, finished.err


def test_a_transformer_is_offered_sizes_that_its_patches_divide(wide, monkeypatch, large):
    """Patches of 16 px: the multiples nearest to the sizes, once each; and so the default, where none is
    measured."""
    tried = []
    monkeypatch.setattr(choosing, "_measured", tiles_that_tell(tried))
    monkeypatch.setattr(choosing, "SIZES", (30, 35, 50, 128))
    monkeypatch.setattr(choosing, "TILED", ((37, 2),))
    monkeypatch.setitem(DEFAULTS, "image_size", 60)
    of_vit = ("fit=squeeze", "backbone={name: test_vit, image_size: auto}")
    config = resolve_config(options_of(wide, *of_vit))
    chosen = choosing._chosen(config, prepare_data(config), None)
    assert tried == [(32, 1), (48, 1), (32, 2)]
    assert chosen["values"] == {"image_size": 32, "tiles": 2}
    config = resolve_config(replace(options_of(wide, *of_vit), unlabelled=True))
    assert choosing._chosen(config, prepare_data(config), None)["values"] == {"image_size": 64}


@pytest.mark.slow
def test_story_of_a_transformer(wide, tmp_path, monkeypatch):
    monkeypatch.setattr(choosing, "SIZES", (30, 50))
    trained = run_command(
        "train-all", wide / "wide", "--recipe", wide / "open.yaml", "--runs", tmp_path / "runs",
        "-o", "fit=squeeze", "-o", "backbone={name: test_vit, weights: random, image_size: auto}",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    document = read_json(tmp_path / "runs" / "wide" / "open" / "chosen.json")
    assert [each["image_size"] for each in document["figures"]] == [32, 48]


def test_nothing_to_choose(tmp_path, wide):
    """Small squares; and no labels to measure with."""
    for name, count in (("fine", 12), ("odd", 6)):
        (tmp_path / "square" / name).mkdir(parents=True)
        for number in range(count):
            pixels = picture(np.random.default_rng(number), name == "odd", 32)
            Image.fromarray(pixels).save(tmp_path / "square" / name / f"{number}.png")
    options = replace(options_of(wide), dataset=str(tmp_path / "square"), runs=tmp_path)
    config = resolve_config(options)
    chosen = choosing._chosen(config, prepare_data(config), None)
    assert chosen["values"] == {"fit": "squeeze", "image_size": 32}
    assert "no larger and nearly square" in chosen["sentence"]
    config = resolve_config(replace(options, unlabelled=True))
    assert "too few minority images" in choosing._chosen(config, prepare_data(config), None)["sentence"]


def test_what_a_recipe_leaves_open():
    recipe = {"fit": "auto", "backbone": {"name": "resnet18", "image_size": "auto"}}
    assert left_to_choose(recipe) == ("fit", "image_size")
    assert settled(recipe, {"fit": "crop"}) == {
        "fit": "crop",
        "backbone": {"name": "resnet18", "image_size": 32},
    }
    assert recipe["fit"] == "auto"
    assert left_to_choose({"backbone": {"image_size": 320}}) == left_to_choose({}) == ()


def test_tiles_go_with_an_open_size_unless_they_are_stated():
    open_size = {"backbone": {"image_size": "auto"}}
    assert offers_tiles(open_size)
    assert settled(open_size, {"image_size": 48, "tiles": 2})["backbone"] == {"image_size": 48, "tiles": 2}
    assert settled(open_size, {"image_size": 48})["backbone"] == {"image_size": 48}
    stated = {"backbone": {"image_size": "auto", "tiles": 1}}
    assert not offers_tiles(stated)
    assert settled(stated, {"image_size": 48, "tiles": 2})["backbone"] == {"image_size": 48, "tiles": 1}
    assert not offers_tiles({"backbone": {"image_size": 320}})
    assert not offers_tiles({})
