"""Views of training images: learnt from with their images by members that declare it, counted nowhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import UsageError
from features.cache import FeatureStore
from tests.conftest import Run
from tests.workflow.run.copies.watching import watch_members
from workflow.run.copies import views
from workflow.run.copies.views import learns_from_views, views_to_fit
from workflow.run.fits import FINAL, fits_of
from workflow.run.prepared import PreparedData, prepare_data
from workflow.run.summary import data_facts
from workflow.settings.config import RunConfig, RunOptions, resolve_config
from workflow.training.estimates import rows_to_fit
from workflow.training.train import FitWork

ADDED = ("members.deep_sad={}", "members.subspace={}")


def config_of(tiny: Run, runs: Path, *overrides: str) -> RunConfig:
    return resolve_config(
        RunOptions(str(tiny.dataset), recipe=str(tiny.recipe), runs=runs, overrides=(*ADDED, *overrides))
    )


def keys(config: RunConfig, data: PreparedData) -> dict[tuple[str, int], str]:
    return {(fit.member.name, fit.fold): fit.key for fit in fits_of(config, data, config.members)}


# ---- which


def test_every_training_image_has_a_view_and_nothing_else_changes(tiny: Run, tmp_path):
    config, without = config_of(tiny, tmp_path), config_of(tiny, tmp_path, "views=none")
    data, plain = prepare_data(config), prepare_data(without)
    assert plain.views == {}
    assert set(data.views) == {row.path for row in data.train}
    assert {view.sha256 for view in data.views.values()} == {row.sha256 for row in data.train}
    assert (data.train, data.test, data.counts()) == (plain.train, plain.test, plain.counts())
    assert np.array_equal(data.fold_of_row, plain.fold_of_row)
    assert (data.train_digest, data.test_digest) == (plain.train_digest, plain.test_digest)
    facts = data_facts(config, data)
    assert facts.pop("views") == len(data.train)
    assert facts == data_facts(without, plain)


def test_of_a_large_class_a_hash_of_the_bytes_chooses(tiny: Run, tmp_path, monkeypatch):
    monkeypatch.setattr(views, "MOST_OF_A_CLASS", 5)
    config = config_of(tiny, tmp_path)
    data = prepare_data(config)
    viewed = [row for row in data.train if row.path in data.views]
    labels = [row.label for row in viewed]
    assert {label: labels.count(label) for label in set(labels)} == dict.fromkeys(data.counts(), 5)
    renamed = [replace(row, path=f"z{i}.png") for i, row in enumerate(reversed(data.train))]
    again = views.views_of(config, renamed)
    assert {view.sha256 for view in again.values()} == {row.sha256 for row in viewed}


def test_members_that_do_not_declare_it_learn_from_none(tiny: Run, tmp_path):
    config = config_of(tiny, tmp_path, "members.whole={type: cnn_tuned}")
    data = prepare_data(config)
    learn = {plan.name: learns_from_views(plan) for plan in config.members}
    assert learn["deep_sad"]
    assert learn["subspace"]
    assert learn["cnn"]
    assert not learn["patchcore"]
    assert not learn["whole"]
    for plan in config.members:
        n_views = len(views_to_fit(data, [plan]).pairs)
        assert n_views == (len(data.train) if learn[plan.name] else 0)
        assert rows_to_fit(plan, data) == len(data.train) + n_views


def test_no_member_that_learns_from_views_no_views(tiny: Run, tmp_path):
    config = config_of(tiny, tmp_path, "members.deep_sad=false", "members.subspace=false")
    config = replace(config, members=tuple(p for p in config.members if not learns_from_views(p)))
    assert prepare_data(config).views == {}


# ---- keys


def test_the_recipe_key_makes_new_fits_of_those_that_learn_from_views_alone(tiny: Run, tmp_path):
    found = {}
    for name in ("auto", "none", "[encoding]", "[noise, mirror]"):
        config = config_of(tiny, tmp_path, f"views={name}")
        found[name] = keys(config, prepare_data(config))
    for member, fold in found["auto"]:
        mine = {found[name][member, fold] for name in found}
        learns = member in {plan.name for plan in config.members if learns_from_views(plan)}
        assert len(mine) == (4 if learns else 1), member


def test_changes_are_a_list_of_known_words(tiny: Run, tmp_path):
    assert config_of(tiny, tmp_path, "views=[encoding, mirror]").recipe.view_changes == ("mirror", "encoding")
    assert config_of(tiny, tmp_path, "views=[]").recipe.view_changes == ()
    assert config_of(tiny, tmp_path).recipe.view_changes == ("noise",)
    for wrong in ("views=[rotate]", "views=all"):
        with pytest.raises(UsageError, match="views"):
            config_of(tiny, tmp_path, wrong)


# ---- what fits learn from


def test_a_view_is_learnt_from_with_its_image_and_scored_nowhere(tiny: Run, tmp_path, monkeypatch):

    config = config_of(tiny, tmp_path)
    data = prepare_data(config)
    seen = watch_members(monkeypatch, "supervised")
    store = FeatureStore(tmp_path / "none", None)  # type: ignore[arg-type]
    work = FitWork(config, data, {config.members[0].backbone: store}, "cpu")
    own = {row.sha256: row for row in data.train}
    of_view = {view.digest: view.sha256 for view in data.views.values()}
    fold_of = {row.sha256: int(f) for row, f in zip(data.train, data.fold_of_row, strict=True)}
    learning = tuple(plan for plan in config.members if plan.name in {"deep_sad", "cnn"})
    for fit in fits_of(config, data, learning):
        result = work.result(fit)
        learnt, scored = seen["fit"], seen["scored"]
        digests, is_copy = learnt.digests, learnt.is_copy
        assert not scored.is_copy.any()
        assert not set(scored.digests) & set(of_view)
        assert len(result.scores) == (len(data.test) if fit.fold == FINAL else len(scored))
        images = set(digests[~is_copy])
        assert images == {sha for sha in own if fold_of[sha] != fit.fold}
        seen_views = {of_view[digest] for digest in digests[is_copy]}
        assert seen_views == (images if learns_from_views(fit.member) else set())
        at = learnt.view_of
        assert np.array_equal(at >= 0, is_copy)
        assert [digests[i] for i in at[is_copy]] == [of_view[digest] for digest in digests[is_copy]]
        group = dict(zip(digests, learnt.groups.tolist(), strict=True))
        label = dict(zip(digests, learnt.labels.tolist(), strict=True))
        for digest in digests[is_copy]:
            assert (group[digest], label[digest]) == (group[of_view[digest]], label[of_view[digest]])


def test_what_is_left_out_as_contamination_takes_its_view_along(tiny: Run, tmp_path, monkeypatch):
    from workflow.training import train as train_all

    config = config_of(tiny, tmp_path)
    data = prepare_data(config)
    seen = watch_members(monkeypatch, "oneclass")

    def all_but_first(build, rows, share, context):
        seen["judged"] = rows
        return np.arange(1, len(rows))

    monkeypatch.setattr(train_all, "typical_positions", all_but_first)
    monkeypatch.setattr(train_all, "contamination_of", lambda _: 0.1)
    store = FeatureStore(tmp_path / "none", None)  # type: ignore[arg-type]
    work = FitWork(config, data, {config.members[0].backbone: store}, "cpu")
    for fit in fits_of(config, data, (config.member("subspace"),)):
        work.result(fit)
        assert not seen["judged"].is_copy.any()
        learnt = seen["fit"]
        left_out = seen["judged"].digests[0]
        of_view = {view.digest: view.sha256 for view in data.views.values()}
        images = set(learnt.digests[~learnt.is_copy])
        assert left_out not in images
        assert {of_view[digest] for digest in learnt.digests[learnt.is_copy]} == images
