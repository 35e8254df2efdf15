"""From a configuration to rows and folds, and back from the run folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from contracts.errors import ModelError, UsageError
from contracts.files import read_json, write_json
from tests.conftest import Run
from tests.pictures import write_pictures, write_two_classes
from workflow.run.fits import FINAL, fits_of, learning_members
from workflow.run.prepared import load_prepared, prepare_data, prepare_to_train, save_prepared
from workflow.run.regime import regime_sentences
from workflow.settings.config import RunConfig, RunOptions, resolve_config


def config_of(tiny: Run, runs: Path, *overrides: str, **options: object) -> RunConfig:
    return resolve_config(
        RunOptions(
            **{
                "dataset": str(tiny.dataset),
                "recipe": str(tiny.recipe),
                "runs": runs,
                "overrides": overrides,
                **options,
            }
        )
    )


def test_saved_rows_come_back(tiny: Run, tmp_path):
    config = config_of(tiny, tmp_path)
    data = prepare_data(config)
    save_prepared(config, data)
    again = load_prepared(config)
    assert again.manifest == data.manifest
    assert (again.train, again.test) == (data.train, data.test)
    assert np.array_equal(again.fold_of_row, data.fold_of_row)
    assert (again.train_digest, again.test_digest) == (data.train_digest, data.test_digest)
    assert [fit.key for fit in fits_of(config, again, config.members)] == [
        fit.key for fit in fits_of(config, data, config.members)
    ]


def test_same_folder_written_in_other_words_is_the_same_data(tiny: Run, tmp_path, monkeypatch):
    config = config_of(tiny, tmp_path)
    save_prepared(config, prepare_data(config))
    monkeypatch.chdir(tiny.dataset.parent)
    relative = config_of(tiny, tmp_path, dataset="./blotches")
    again = load_prepared(relative)
    assert again.manifest.root == tiny.dataset
    assert again.file_of(again.test[0]).is_file()


def test_start_that_was_cut_off_is_seen(tiny: Run, tmp_path):
    """A kill between the writes of a second start leaves files of two configurations."""
    first, second = config_of(tiny, tmp_path), config_of(tiny, tmp_path, "imbalance=1:9")
    save_prepared(first, prepare_data(first))
    prepare_data(second).manifest.write(second.folder / "manifest.parquet")
    for config in (first, second):
        with pytest.raises(ModelError, match=r"python cli\.py train-all"):
            load_prepared(config)


def test_fits_and_their_seeds(tiny: Run, tmp_path):
    config = config_of(tiny, tmp_path)
    data = prepare_data(config)
    fits = fits_of(config, data, config.members)
    assert [fit.fold for fit in fits[:4]] == [0, 1, 2, FINAL]
    assert (
        len({fit.seed for fit in fits}) == len({fit.key for fit in fits}) == len({u.path for u in fits}) == 16
    )
    assert [fit.label for fit in fits[:4]] == [
        "patchcore, fold 1",
        "patchcore, fold 2",
        "patchcore, fold 3",
        "patchcore, all rows",
    ]
    other = config_of(tiny, tmp_path, seed=1)
    assert not {fit.seed for fit in fits} & {u.seed for u in fits_of(other, data, other.members)}


@pytest.mark.parametrize(
    "override", ["members.cnn.l2=3", "backbone.image_size=96", "window=[0,100]", "scaled_jpeg=true"]
)
def test_key_changes_with_what_a_result_depends_on(tiny: Run, tmp_path, override):
    config, other = config_of(tiny, tmp_path), config_of(tiny, tmp_path, override)
    data = prepare_data(config)
    mine = {fit.path: fit.key for fit in fits_of(config, data, (config.member("cnn"),))}
    theirs = {fit.path: fit.key for fit in fits_of(other, data, (other.member("cnn"),))}
    assert mine.keys() == theirs.keys()
    assert all(mine[path] != theirs[path] for path in mine)


def test_scaled_decoding_is_recorded_where_it_is_on_and_nowhere_else(tiny: Run, tmp_path):
    plain, scaled = config_of(tiny, tmp_path), config_of(tiny, tmp_path, "scaled_jpeg=true")
    assert (plain.decode.scaled, scaled.decode.scaled) == (False, True)
    assert "scaled_jpeg" not in plain.to_json()["dataset"]
    save_prepared(plain, prepare_data(plain))
    with pytest.raises(ModelError, match=r"trained with .*scaled_jpeg"):
        load_prepared(scaled)
    save_prepared(scaled, prepare_data(scaled))
    assert load_prepared(scaled)
    with pytest.raises(ModelError, match=r"trained with .*scaled_jpeg"):
        load_prepared(plain)


@pytest.mark.parametrize(
    "override", ["threshold=max_f1", "bootstrap=300", "deployment_prior=0.3", "title=new"]
)
def test_key_does_not_change_with_what_comes_later(tiny: Run, tmp_path, override):
    config, other = config_of(tiny, tmp_path), config_of(tiny, tmp_path, override)
    data = prepare_data(config)
    assert fits_of(config, data, config.members) == fits_of(other, data, other.members)


def test_images_are_looked_at_once_for_all_recipes(tiny: Run, tmp_path, monkeypatch):
    from imagedata import inspection

    prepare_data(config_of(tiny, tmp_path))
    monkeypatch.setattr(inspection, "inspect_file", None)
    prepare_data(config_of(tiny, tmp_path, "folds=2", "backbone.image_size=96"))


def test_two_folds_without_a_test_set_are_refused_before_training(tmp_path):
    """Where ``ensemble`` would refuse them, after every fit."""
    few = "backbone={name: test_efficientnet, weights: random, image_size: 64}"
    folder = write_two_classes(tmp_path / "set", 14, 6)

    def config(dataset: Path, *overrides: str) -> RunConfig:
        return resolve_config(RunOptions(str(dataset), runs=tmp_path / "runs", overrides=(few, *overrides)))

    refused = r"set: recipe quick has folds=2, and there is no test set\..* Use -o folds=3, or set"
    with pytest.raises(UsageError, match=refused):
        prepare_to_train(config(folder, "folds=2"))
    assert prepare_to_train(config(folder, "folds=3")).n_repeats == 3
    # Nor is anything refused where there is nothing to judge, or a test set to judge on.
    for dataset in (folder / "fine", write_two_classes(tmp_path / "tested", 14, 6, test=2)):
        assert set(prepare_to_train(config(dataset, "folds=2")).fold_of_row) == {0, 1}


@pytest.mark.parametrize("older", [{"format": 1}, {"format": None}])
def test_folder_of_another_version_is_refused_and_trained_again(tiny: Run, tmp_path, older):
    config = config_of(tiny, tmp_path)
    data = prepare_data(config)
    save_prepared(config, data)
    path = config.folder / "config.json"
    # The first versions wrote no format at all.
    saved = {key: value for key, value in {**read_json(path), **older}.items() if value is not None}
    write_json(path, saved)
    with pytest.raises(ModelError, match=r"another version .*\(format 1, .*: python cli\.py train-all"):
        load_prepared(config)
    save_prepared(config, data)
    assert load_prepared(config).train == data.train


def few(folder: Path, minority: int) -> Path:
    """A folder of 12 images of the majority and a few of the minority."""
    return write_two_classes(folder / f"few{minority}", 12, minority)


@pytest.mark.parametrize(
    ("minority", "overrides", "repeats"),
    [
        (3, (), 3),
        (3, ("repeats=2",), 2),
        (3, ("test_share=0.4",), 1),
        (3, ("members.cnn_weighted={tune: full}",), 1),
        (0, (), 1),
    ],
)
def test_repeats_where_figures_are_cross_validated_and_members_cheap(
    tiny: Run, tmp_path, minority, overrides, repeats
):
    config = config_of(tiny, tmp_path, *overrides, dataset=str(few(tmp_path, minority)))
    data = prepare_data(config)
    assert data.n_repeats == repeats
    save_prepared(config, data)
    again = load_prepared(config)
    assert all(map(np.array_equal, again.more_folds, data.more_folds))
    assert (again.n_repeats, again.regime) == (repeats, "labelled" if minority else "normal_only")


def test_labels_that_nobody_vouches_for_make_other_fits(tiny: Run, tmp_path):
    folder = few(tmp_path, 0)
    vouched, unknown = (
        config_of(tiny, tmp_path / name, *overrides, dataset=str(folder))
        for name, overrides in (("a", ()), ("b", ("unlabelled=true",)))
    )
    rows = [prepare_data(config) for config in (vouched, unknown)]
    assert [data.regime for data in rows] == ["normal_only", "unlabelled"]
    assert rows[0].train == rows[1].train
    assert rows[0].train_digest != rows[1].train_digest
    save_prepared(unknown, rows[1])
    assert load_prepared(unknown).regime == "unlabelled"


def test_a_member_waits_for_the_labels_that_it_needs(tmp_path):
    folder = tmp_path / "parts"
    write_pictures(folder / "good", 12, False, 0)

    def with_defects(count: int, *members: str) -> RunConfig:
        write_pictures(folder / "bad", count, True, 1)
        overrides = [f"members={{{', '.join(f'{name}: {{}}' for name in members)}}}"]
        return resolve_config(RunOptions(str(folder), runs=tmp_path, overrides=overrides))

    config = with_defects(1, "subspace", "cnn", "patch_head")
    one = prepare_data(config)
    assert [plan.name for plan in learning_members(config, one, config.members)] == ["subspace", "cnn"]
    assert "From the second independent image on, patch_head is trained as well." in regime_sentences(
        config, one
    )
    with pytest.raises(UsageError, match=r"patch_head can be trained from two on\. Add another member"):
        learning_members(config, one, config.members[2:])
    config = with_defects(2, "subspace", "cnn", "patch_head")
    two = prepare_data(config)
    assert learning_members(config, two, config.members) == config.members
    assert not any("patch_head" in sentence for sentence in regime_sentences(config, two))
