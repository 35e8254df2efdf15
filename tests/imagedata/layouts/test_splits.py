"""Trees with training, validation and test folders: no image is lost without a word."""

import shlex
from pathlib import Path

import pytest

from contracts.errors import DataError
from tests.imagedata.trees import manifest_of, mvtec_tree, noise
from workflow.run.reading import reading_of
from workflow.settings.config import RunConfig, RunOptions, resolve_config

TRAIN = ("train/good/1.png", "train/good/2.png", "train/bad/1.png")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def config_of(folder: Path, *overrides: str, minority: str | None = None) -> RunConfig:
    return resolve_config(RunOptions(str(folder), overrides=overrides, minority=minority))


def splits_of(config: RunConfig) -> dict[str, str]:
    return {image.path: image.split for image in config.spec.list_images(config.spec.find(config.data_dir))}


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "DEV"])
@pytest.mark.parametrize("order", ["{split}/{kind}", "{kind}/{split}"])
def test_validation_images_join_training(tmp_path, name, order):
    for split, count in (("train", 3), (name, 2), ("test", 1)):
        for kind in ("good", "bad"):
            place = order.format(split=split, kind=kind)
            touch(
                tmp_path, *(f"{place}/{number}.png" for number in range(count * (2 if kind == "good" else 1)))
            )
    config = config_of(tmp_path)
    splits = splits_of(config)
    assert len(splits) == 18
    assert {path for path, split in splits.items() if split == "test"} == {
        path for path in splits if "test" in path
    }
    pattern = order.format(split=name, kind="{class}")
    assert reading_of(config) == {
        "reading": [
            f"6 validation images join the training images ({pattern}): the folds take the place of a "
            "validation set."
        ],
        "unused_images": {},
    }


def test_without_a_test_folder_validation_is_the_test_set(tmp_path):
    touch(tmp_path, *TRAIN, "Val/good/3.png", "Val/bad/3.png")
    config = config_of(tmp_path)
    assert {path for path, split in splits_of(config).items() if split == "test"} == {
        "Val/good/3.png",
        "Val/bad/3.png",
    }
    assert reading_of(config)["reading"] == [
        "The test set is Val/{class}, as there is no other: nothing is trained or tuned on it."
    ]


def test_a_test_folder_that_is_called_so_needs_no_sentence(tmp_path):
    touch(tmp_path, *TRAIN, "test/good/3.png", "test/bad/3.png")
    assert reading_of(config_of(tmp_path)) == {"reading": [], "unused_images": {}}


def test_images_that_enter_nothing_are_counted_by_folder(tmp_path):
    touch(tmp_path, *TRAIN, "test/good/3.png", "test/bad/3.png")
    touch(tmp_path, "extra/1.png", "extra/2.png", "test/odd/4.png", "0.png", "notes.txt")
    assert reading_of(config_of(tmp_path))["unused_images"] == {".": 1, "extra": 2, "test/odd": 1}


def test_pictures_below_the_runs_folder_are_our_own(tmp_path):
    touch(tmp_path, *TRAIN, "runs/explored/1.png")
    options = RunOptions(str(tmp_path), runs=tmp_path / "runs")
    assert reading_of(resolve_config(options))["unused_images"] == {}


def test_classes_that_name_their_splits_otherwise_have_none(tmp_path):
    touch(tmp_path, "good/train/1.png", "good/train/2.png", "good/test/3.png", "bad/1.png")
    assert set(splits_of(config_of(tmp_path)).values()) == {"train"}


@pytest.mark.parametrize("kinds", [("0", "1"), ("007", "008"), ("ok parts", "scratched")])
def test_test_folders_that_do_not_say_which_is_normal(tmp_path, kinds):
    for number in range(8):
        noise(tmp_path / "train" / "good" / f"{number}.png", number)
        for place, kind in enumerate(kinds):
            noise(tmp_path / "test" / kind / f"{number}.png", 100 * place + number + 50)
    with pytest.raises(
        DataError, match=f"train/ holds one folder, good, and test/ holds {kinds[0]}, {kinds[1]}"
    ) as caught:
        config_of(tmp_path)
    advised = shlex.split(str(caught.value).split(" -o ")[1].split(". If ")[0])[0]
    config = config_of(tmp_path, advised)
    manifest = manifest_of(config.spec, config.data_dir)
    assert manifest.counts("train") == {"good": 8, "anomalous": 4}
    assert manifest.counts("test") == {"good": 8, "anomalous": 4}
    assert {row.path.split("/")[1] for row in manifest.rows if row.label == "anomalous"} == {kinds[1]}


def test_normal_validation_images_of_a_tree_of_anomalies_join_training(tmp_path):
    mvtec_tree(tmp_path)
    noise(tmp_path / "validation" / "good" / "1.png", 9_000)
    noise(tmp_path / "validation" / "kind_0" / "1.png", 9_001)
    config = config_of(tmp_path)
    assert splits_of(config)["validation/good/1.png"] == "train"
    reading = reading_of(config)
    assert reading["reading"][0].startswith("1 validation image joins the training images (validation/good)")
    assert reading["unused_images"] == {"validation/kind_0": 1}
