"""Augmented copies of the minority: made once and alike, listed, tied to their source, never scored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from contracts.errors import DataError, ModelError, UsageError
from contracts.files import read_json, sha256_of_file, write_json
from features.rows import read_pixels
from imagedata.manifest import Manifest
from imagedata.spec import MinorityCopies
from supervised.settings import AugmentSettings
from tests.conftest import Run
from tests.pictures import write_pictures, write_two_classes
from tests.workflow.run.copies.watching import watch_members
from workflow.run.copies import augmented
from workflow.run.copies.augmented import copies_of_each
from workflow.run.fits import FINAL, fits_of
from workflow.run.prepared import PreparedData, load_prepared, prepare_data, save_prepared
from workflow.run.state import Run as TrainedRun
from workflow.run.summary import data_facts, shared_across
from workflow.settings.config import RunConfig, RunOptions, resolve_config
from workflow.training.train import FitWork, positions_to_fit

ROOT = Path(__file__).parents[4]
COPIES = "augment_minority.copies=2"


def config_of(tiny: Run, runs: Path, *overrides: str, **options: object) -> RunConfig:
    given = {"dataset": str(tiny.dataset), "recipe": str(tiny.recipe), "runs": runs, "overrides": overrides}
    return resolve_config(RunOptions(**{**given, **options}))


def bytes_of(data: PreparedData) -> dict[str, bytes]:
    return {row.path: data.file_of(row).read_bytes() for row in data.augmented}


# ---- what is made


def test_manifest_lists_the_copies_apart_from_every_count(tiny: Run, tmp_path):
    plain = prepare_data(config_of(tiny, tmp_path))
    config = config_of(tiny, tmp_path, COPIES)
    data = prepare_data(config)
    assert len(data.augmented) == 24
    sources = {row.path: row for row in data.train}
    for row in data.augmented:
        source = sources[row.source]
        assert (row.label, row.group) == ("odd", source.group) == (source.label, source.group)
        assert row.path.split("/")[1].startswith(f"{source.sha256}-")
        assert row.sha256 == sha256_of_file(data.file_of(row))
        assert data.file_of(row).is_relative_to(tmp_path / "augmented")
    assert set(Counter(row.source for row in data.augmented).values()) == {2}
    assert (data.train, data.test) == (plain.train, plain.test)
    assert np.array_equal(data.fold_of_row, plain.fold_of_row)
    assert (data.train_digest, data.test_digest) == (plain.train_digest, plain.test_digest)
    facts = data_facts(config, data)
    assert facts.pop("augmented") == 24
    assert facts == data_facts(config_of(tiny, tmp_path), plain)
    assert set(shared_across(data).values()) == {0}
    assert "augmented copies separated from their training image" in shared_across(data)
    stray = replace(data, augmented=(replace(data.augmented[0], group="another"), *data.augmented[1:]))
    assert shared_across(stray)["augmented copies separated from their training image"] == 1


def test_copies_are_changed_images_at_the_working_size(tiny: Run, tmp_path):
    config = config_of(tiny, tmp_path, COPIES, "augment_minority.erasing=1")
    data = prepare_data(config)
    pixels = read_pixels([data.file_of(row) for row in data.augmented], config.decode)
    assert pixels.shape == (24, 64, 64, 3)
    assert len({row.sha256 for row in data.augmented}) == 24
    source = read_pixels([data.manifest.root / str(row.source) for row in data.augmented], config.decode)
    assert (np.abs(pixels.astype(int) - source).mean(axis=(1, 2, 3)) > 1).all()
    # A rectangle is blanked in each.
    assert ((pixels == 0).all(axis=3).mean(axis=(1, 2)) > 0.015).all()


def test_changes_are_those_that_a_whole_cnn_knows():
    settings = MinorityCopies(copies=1, flips="both", erasing=0.5)
    assert (
        AugmentSettings.model_validate(settings.changes()).model_dump().items() >= settings.changes().items()
    )


def test_same_seed_same_bytes_and_another_seed_or_setting_another_folder(tiny: Run, tmp_path):
    first = prepare_data(config_of(tiny, tmp_path / "a", COPIES))
    again = prepare_data(config_of(tiny, tmp_path / "b", COPIES))
    assert again.augmented == first.augmented
    assert bytes_of(again) == bytes_of(first)
    assert again.manifest.digest == first.manifest.digest
    folders = {first.augmented[0].path.split("/")[0]}
    for overrides, seed in (((COPIES,), 1), ((COPIES, "augment_minority.zoom=0.3"), 0)):
        other = prepare_data(config_of(tiny, tmp_path / "a", *overrides, seed=seed))
        assert not {row.sha256 for row in other.augmented} & {row.sha256 for row in first.augmented}
        folders.add(other.augmented[0].path.split("/")[0])
    assert len(folders) == 3
    assert {path.name for path in (tmp_path / "a" / "augmented").iterdir()} == folders
    assert bytes_of(first) == bytes_of(again)  # nobody wrote into the first folder


def test_global_generator_and_inputs_stay(tiny: Run, tmp_path):
    import torch

    before, files = torch.get_rng_state(), sorted(tiny.dataset.rglob("*"))
    content = [sha256_of_file(path) for path in files if path.is_file()]
    prepare_data(config_of(tiny, tmp_path, COPIES))
    assert torch.equal(torch.get_rng_state(), before)
    assert sorted(tiny.dataset.rglob("*")) == files
    assert [sha256_of_file(path) for path in files if path.is_file()] == content


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 500), st.integers(0, 9))
def test_total_is_dealt_out_evenly(n_sources: int, total: int, seed: int):
    sources = [f"{i:064x}" for i in range(n_sources)]
    numbers = copies_of_each(MinorityCopies(total=total), sources, seed)
    assert sum(numbers.values()) == total
    assert max(numbers.values()) - min(numbers.values()) <= 1
    assert numbers == copies_of_each(MinorityCopies(total=total), sources[::-1], seed)


def test_only_the_last_of_several_classes_is_copied(tiny: Run, tmp_path):
    write_two_classes(tmp_path / "three", 20, 8)
    write_pictures(tmp_path / "three" / "scratched", 12, odd=False, seed=7)
    total = "augment_minority.total=11"
    data = prepare_data(
        config_of(tiny, tmp_path / "runs", total, dataset=str(tmp_path / "three"), minority="odd")
    )
    assert len(data.manifest.class_names) == 3
    assert {row.label for row in data.augmented} == {data.manifest.class_names[-1]} == {"odd"}
    assert len(data.augmented) == 11
    assert data.labels(list(data.augmented)).tolist() == [2] * 11


# ---- interrupted, changed, gone

_KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from workflow.run.copies import augmented
from workflow.settings.config import RunOptions, resolve_config
from workflow.run.prepared import prepare_data
whole, left = augmented.atomic_writer, 5
@contextmanager
def dies(path):
    global left
    left -= 1
    if left == 0:
        with path.with_name(f".{path.name}.{os.getpid()}.tmp").open("wb") as handle:
            handle.write(b"\\x89PNG half")
            handle.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    with whole(path) as handle:
        yield handle
augmented.atomic_writer = dies
dataset, recipe, runs, override = sys.argv[1:]
prepare_data(resolve_config(RunOptions(dataset, recipe=recipe, runs=Path(runs), overrides=(override,))))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_goes_on_after_a_kill_and_ends_with_the_same_bytes(tiny: Run, tmp_path, monkeypatch):
    alone = prepare_data(config_of(tiny, tmp_path / "alone", COPIES))
    arguments = [str(word) for word in (tiny.dataset, tiny.recipe, tmp_path / "killed", COPIES)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, *arguments], cwd=ROOT, env=environment, check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    (folder,) = (tmp_path / "killed" / "augmented").iterdir()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("[!.]*.png")}
    assert len(kept) == 4
    assert not (folder / "made.json").exists()

    made = []
    copy_of = augmented._Maker.copy_of
    monkeypatch.setattr(
        augmented._Maker,
        "copy_of",
        lambda self, source, name: made.append(name) or copy_of(self, source, name),
    )
    data = prepare_data(config_of(tiny, tmp_path / "killed", COPIES))
    assert len(made) == 20
    assert bytes_of(data) == bytes_of(alone)
    assert data.manifest.digest == alone.manifest.digest
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert read_json(folder / "made.json")["files"] == {
        Path(row.path).name: row.sha256 for row in data.augmented
    }


def test_deleted_and_changed_copies_are_made_again(tiny: Run, tmp_path, monkeypatch):
    config = config_of(tiny, tmp_path, COPIES)
    data = prepare_data(config)
    before = bytes_of(data)
    data.file_of(data.augmented[3]).unlink()
    data.file_of(data.augmented[5]).write_bytes(before[data.augmented[6].path])
    assert bytes_of(prepare_data(config)) == before
    monkeypatch.setattr(augmented, "_Maker", None)
    assert prepare_data(config).augmented == data.augmented  # nothing left to do


def test_source_that_goes_meanwhile_is_named(tiny: Run, tmp_path, monkeypatch):
    write_two_classes(tmp_path / "blotches", 20, 8, test=4)
    config = config_of(tiny, tmp_path / "runs", COPIES, dataset=str(tmp_path / "blotches"))
    with_copies = augmented.with_augmented_copies

    def gone(manifest: Manifest, *arguments: object) -> Manifest:
        (tmp_path / "blotches" / "train" / "odd" / "003.png").unlink()
        return with_copies(manifest, *arguments)

    monkeypatch.setattr(augmented, "with_augmented_copies", gone)
    with pytest.raises(DataError, match=r"003\.png: cannot be read.*could be read when the data set"):
        prepare_data(config)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("augment_minority.copies=2", "augment_minority.total=9"), "copies=2 and total=9 say twice"),
        (("augment_minority.zoom=0.1",), "give copies .of each image. or total"),
        (("augment_minority.copies=0",), "augment_minority.copies'.* greater than or equal to 1"),
        (("augment_minority.copys=2",), "unknown key 'augment_minority.copys'. Did you mean 'copies'"),
        (("augment_minority={copies: 2, mix: mixup}",), "unknown key 'augment_minority.mix'"),
        (
            ("augment_minority={copies: 2, flips: none, rotation: 0, zoom: 0, shift: 0, shear: 0}",),
            "every copy would equal its source",
        ),
    ],
)
def test_settings_that_cannot_be(tiny: Run, tmp_path, overrides, said):
    with pytest.raises(UsageError, match=said):
        config_of(tiny, tmp_path, *overrides)


# ---- saved and read


def test_saved_copies_come_back(tiny: Run, tmp_path):
    config = config_of(tiny, tmp_path, COPIES)
    data = prepare_data(config)
    save_prepared(config, data)
    again = load_prepared(config)
    assert again.manifest == data.manifest
    assert again.augmented == data.augmented
    assert (again.augmented_digest, again.augmented_root) == (data.augmented_digest, data.augmented_root)
    with pytest.raises(ModelError, match=r"trained with augment_minority=.*train-all"):
        load_prepared(config_of(tiny, tmp_path))


def test_run_of_an_older_version_is_read(tiny: Run, tmp_path):
    config = config_of(tiny, tmp_path)
    data = prepare_data(config)
    save_prepared(config, data)
    table = pq.read_table(config.folder / "manifest.parquet")
    assert str(table.schema.field("source").type) == "string"
    pq.write_table(table.drop_columns(["source", "subtype", "mask"]), config.folder / "manifest.parquet")
    saved = read_json(config.folder / "config.json")
    for later in ("augment_minority", "keep_share", "tree"):
        del saved["dataset"][later]
    del saved["dataset"]["layout"]["region_masks"]
    write_json(config.folder / "config.json", saved)
    assert load_prepared(config).manifest == data.manifest


# ---- who learns from them


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_copies_never_cross_folds(seed: int):
    rng = np.random.default_rng(seed)
    n, folds, m = int(rng.integers(4, 60)), int(rng.integers(2, 6)), int(rng.integers(0, 90))
    fold_of_row, source_of_copy = rng.integers(0, folds, n), rng.integers(0, n, m)
    for fold in range(folds):
        expected = [i for i in range(n) if fold_of_row[i] != fold]
        expected += [n + j for j in range(m) if fold_of_row[source_of_copy[j]] != fold]
        assert positions_to_fit(fold_of_row, source_of_copy, fold).tolist() == expected
    assert positions_to_fit(fold_of_row, source_of_copy, FINAL).tolist() == list(range(n + m))


def test_fits_fit_on_copies_of_their_own_rows_and_score_none(tiny: Run, tmp_path, monkeypatch):
    from features.cache import FeatureStore

    config = config_of(tiny, tmp_path, COPIES, "views=none")
    data = prepare_data(config)
    seen = watch_members(monkeypatch, "supervised")
    backbone = config.members[0].backbone
    store = FeatureStore(tmp_path / "none", None)  # type: ignore[arg-type]
    work = FitWork(config, data, {backbone: store}, "cpu")
    copies = {row.sha256: row for row in data.augmented}
    fold_of_path = {row.path: int(f) for row, f in zip(data.train, data.fold_of_row, strict=True)}
    members = tuple(config.member(name) for name in ("cnn", "cnn_weighted", "patchcore"))
    for fit in fits_of(config, data, members):
        work(fit)
        learnt, scored = seen["fit"], seen["scored"]
        assert not scored.is_copy.any()
        assert not set(scored._digests) & set(copies)
        assert not set(learnt._digests) & set(scored._digests)
        assert len(scored) == (20 if fit.fold == FINAL else np.sum(data.fold_of_row == fit.fold))
        mine = [copies[d] for d, copy in zip(learnt._digests, learnt.is_copy, strict=True) if copy]
        if fit.member.name in {"cnn", "patchcore"}:  # the calibrated baseline stays plain
            assert mine == []
            continue
        sources = {row.source for row in mine}
        assert sources == {
            row.path for row in data.train if row.label == "odd" and fold_of_path[row.path] != fit.fold
        }
        assert len(mine) == 2 * len(sources)
        group_of = {row.path: row.group for row in data.train}
        number = dict(zip(learnt._digests, learnt.groups.tolist(), strict=True))
        by_path = {row.path: row.sha256 for row in data.train}
        for row in mine:
            assert number[row.sha256] == number[by_path[str(row.source)]]
            assert row.group == group_of[str(row.source)]


def test_keys_cover_the_copies_of_those_who_learn_from_them(tiny: Run, tmp_path):
    plain = config_of(tiny, tmp_path)
    data = prepare_data(plain)
    config = config_of(tiny, tmp_path, COPIES)
    with_copies = prepare_data(config)
    before = {fit.path: fit.key for fit in fits_of(plain, data, plain.members)}
    after = {fit.path: fit.key for fit in fits_of(config, with_copies, config.members)}
    changed = {path.parent.name for path in before if before[path] != after[path]}
    same = {path.parent.name for path in before if before[path] == after[path]}
    assert (changed, same) == ({"cnn_weighted"}, {"cnn", "patchcore", "deep_svdd"})
    for what in ({"source": data.train[0].path}, {"sha256": "0" * 64}):
        first, *others = with_copies.augmented
        other = replace(with_copies, augmented=(replace(first, **what), *others))
        assert other.augmented_digest != with_copies.augmented_digest


def test_training_with_copies_measures_the_same_rows(trained: Run, tmp_path):
    run = trained.copy(tmp_path)
    outcome = run.command("train-all", "-o", COPIES, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["fits_run"] == 4  # results of the one-class members and the baseline stay
    assert "24 augmented copies of 12 odd training images" in outcome.said
    assert run.command("train-all", "-o", COPIES, "--json").json["fits_run"] == 0
    config = config_of(run, run.runs, COPIES)
    trained = TrainedRun(config)
    data = trained.data
    for table, rows in zip(trained.tables_of([0]), (data.train, data.test), strict=True):
        table.require_complete()
        assert list(table.row_ids) == [row.path for row in rows]
