"""Every recipe that ships resolves, and settings go over a type's defaults key by key."""

from __future__ import annotations

import pytest

from contracts.errors import UsageError
from workflow.settings.config import RunOptions, resolve_config
from workflow.settings.recipe import merged, recipe_names


@pytest.mark.parametrize("recipe", recipe_names())
def test_recipe_resolves(recipe):
    config = resolve_config(RunOptions("elpv", recipe=recipe))
    assert config.member("cnn").settings.loss == "cross_entropy"
    identities = [str(plan.identity()) for plan in config.members]
    assert len(set(identities)) == len(identities), "two members are the same thing"


def test_zoo_has_every_cnn_between_its_two_recipes():
    """A variant that differs in settings only is judged there; a new member need not be."""
    from workflow.settings.registry import MEMBERS

    seen = {
        plan.type
        for recipe in ("zoo", "zoo_tuned")
        for plan in resolve_config(RunOptions("elpv", recipe=recipe)).members
    }
    assert {name for name in MEMBERS if name.startswith("cnn")} <= seen


def test_one_key_of_a_sampler_may_be_named():
    options = RunOptions("elpv", recipe="zoo", overrides=["members.cnn_oversampled.sampler.cap=0.25"])
    sampler = resolve_config(options).member("cnn_oversampled").settings.sampler
    assert (sampler.kind, sampler.cap) == ("oversample", 0.25)


def test_another_kind_takes_nothing_over():
    defaults = {"sampler": {"kind": "oversample", "cap": 0.5}, "loss": "focal"}
    assert merged(defaults, {"sampler": {"kind": "undersample"}}) == {
        "sampler": {"kind": "undersample"},
        "loss": "focal",
    }
    assert merged(defaults, {"sampler": {"cap": 1.0}})["sampler"] == {"kind": "oversample", "cap": 1.0}


@pytest.mark.parametrize(
    "override",
    [
        "loss=focal",
        "smoothing=0.1",
        "sampler.kind=oversample",
        "synthetic.space=features",
        "{tune: full, simclr: {}}",
        "{tune: full, retrain: {method: crt}}",
        "{tune: full, augment: {mix: mixup}}",
    ],
)
def test_the_calibrated_baseline_stays_plain(override):
    key = f"members.cnn={override}" if override.startswith("{") else f"members.cnn.{override}"
    with pytest.raises(UsageError, match="calibrated baseline is a 'cnn' with plain cross-entropy"):
        resolve_config(RunOptions("elpv", recipe="quick", overrides=[key]))


def test_the_calibrated_baseline_may_be_a_whole_cnn():
    options = RunOptions("elpv", recipe="quick", overrides=["members.cnn={tune: full, epochs: 3}"])
    assert resolve_config(options).member("cnn").settings.tune == "full"
