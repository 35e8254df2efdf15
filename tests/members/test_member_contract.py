"""What every member promises (contracts/member.py), held against every entry of the registry.

A member that is added to the registry is tested here without a change to this file; put settings into
SMALL only if its defaults are too slow for tiny rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from contracts.errors import DataError
from contracts.files import read_arrays, write_arrays
from contracts.member import FitContext, Member
from features.apply import feature_batches
from features.settings import BackboneSettings
from features.tensors import BackboneFeatures
from tests.rows import ArrayRows, relabelled, scrambled, synthetic_rows
from workflow.settings.registry import MEMBERS, build_member, entry_of, settings_class

# What parts these rows is brightness, which contrast normalisation takes away by design.
SMALL_PIXELS: dict[str, Any] = {
    "contrast": "none",
    "filters": (4, 8),
    "embedding_dim": 16,
    "pretrain_epochs": 3,
    "epochs": 8,
    "batch_size": 16,
}
SMALL: dict[str, dict[str, Any]] = {
    "patchcore": {"bank_size": 200, "pca_dim": 4},
    "deep_svdd": {"hidden": 16, "embedding_dim": 8, "epochs": 5, "batch_size": 16},
    "deep_svdd_pixels": SMALL_PIXELS,
    "deep_sad": {"hidden": 16, "embedding_dim": 8, "epochs": 5, "batch_size": 16},
    "deep_sad_pixels": SMALL_PIXELS,
    "mean_shifted": {"image_size": 32, "epochs": 2, "batch_size": 16},
    "cnn_deep_smote": {
        "synthetic": {"width": 4, "latent_dim": 8, "epochs": 8, "batch_size": 16, "learning_rate": 3e-3}
    },
    "cnn_simclr": {"simclr": {"epochs": 2, "batch_size": 16, "projection_dim": 8, "flips": "none"}},
    "cnn_simclr_linear": {
        "image_size": 32,
        "l2": 1.0,
        "simclr": {"epochs": 2, "batch_size": 16, "projection_dim": 8, "flips": "none"},
    },
    "cnn_sam": {"epochs": 10, "patience": 10, "optimiser": {"learning_rate": 1e-2, "sam": 0.02}},
}
BACKBONE = BackboneSettings(
    name="test_resnet", weights="random", image_size=32, patch_strides=(4, 8), pooled_strides=(8, 16)
)


@dataclass(frozen=True)
class Case:
    """A member type with settings."""

    id: str
    type: str
    settings: dict[str, Any] = field(default_factory=dict, hash=False)

    def build(self) -> Member:
        given = {**entry_of(self.type).defaults, **self.settings}
        return build_member(self.type, settings_class(self.type)(**given), BACKBONE)


# Random weights have no statistics worth following for a handful of batches.
SMALL_CNN: dict[str, Any] = {
    "image_size": 32,
    "epochs": 6,
    "patience": 6,
    "batch_size": 16,
    "batch_norm": "frozen",
}


def small(name: str) -> dict[str, Any]:
    """Settings that make a member's fit on tiny rows take seconds."""
    defaults = entry_of(name).defaults
    if defaults.get("tune") != "full":
        return SMALL.get(name, {})
    optimiser = {"learning_rate": 3e-3, **defaults.get("optimiser", {})}
    augment = {**defaults.get("augment", {}), "flips": "none"}
    return {**SMALL_CNN, "optimiser": optimiser, "augment": augment, **SMALL.get(name, {})}


# Random weights of a tiny backbone; what is held against the contract is all that lies around them.
FROM_ANOMALIB: dict[str, Any] = {"weights": "random", "max_epochs": 1}
TINY_LAYERS: dict[str, Any] = {"backbone": "test_resnet", "layers": ["layer1", "layer2"]}

CASES = [Case(name, name, small(name)) for name in MEMBERS] + [
    Case(
        "patchcore-reweighted", "patchcore", {"bank_size": 200, "whiten": False, "image_score": "reweighted"}
    ),
    Case(
        "patchcore-knn-whitened",
        "patchcore",
        {
            "bank_ratio": 0.1,
            "pca_dim": 6,
            "pca_rows": "all",
            "whiten": True,
            "shrinkage": 0.3,
            "neighbourhood": 3,
            "image_score": "knn_mean",
            "neighbours": 3,
            "map_size": 20,
            "map_sigma": 1.5,
        },
    ),
    Case("patchcore-contamination", "patchcore", {"bank_mb": 0.005, "pca_dim": 4, "contamination_z": 3.5}),
    Case("deep_svdd-soft", "deep_svdd", {**SMALL["deep_svdd"], "objective": "soft_boundary", "nu": 0.1}),
    Case(
        "deep_svdd_pixels-gray",
        "deep_svdd_pixels",
        {**SMALL_PIXELS, "colours": "gray", "contrast": "global"},
    ),
    Case("knn-standard", "knn", {"pooled_scale": "standard", "neighbours": 5}),
    Case("cnn-mlp", "cnn", {"hidden": 8, "l2": 1.0}),
    Case(
        "anomalib-padim", "anomalib:padim", {**FROM_ANOMALIB, "arguments": {**TINY_LAYERS, "n_features": 12}}
    ),
    Case("anomalib-patchcore", "anomalib:patchcore", {**FROM_ANOMALIB, "arguments": TINY_LAYERS}),
]
BY_ID = {case.id: case for case in CASES}


def brief(case: Case) -> Case:
    """The case with at most two epochs, for what holds however well a member has learned."""
    return replace(case, settings=_at_most_two_epochs(case.settings))


def _at_most_two_epochs(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _at_most_two_epochs(value)
        if isinstance(value, dict)
        else min(value, 2)
        if name.endswith("epochs")
        else value
        for name, value in settings.items()
    }


# They differ from cnn_tuned in an augmentation, or from cnn_crt in what is done to the last layer: what
# tests/supervised/whole_cnn holds. Here they run with the slow tests.
ALIKE = {"cnn_augmented", "cnn_cutmix", "cnn_erasing", "cnn_lws", "cnn_tau_norm"}


def of_kinds(*kinds: str) -> pytest.MarkDecorator:
    """Parametrises a test with the cases of members of these kinds."""
    cases = [
        pytest.param(case, id=case.id, marks=[pytest.mark.slow] if case.id in ALIKE else [])
        for case in CASES
        if entry_of(case.type).kind in kinds
    ]
    return pytest.mark.parametrize("case", cases)


all_members = of_kinds("oneclass", "semisupervised", "supervised")
supervised_members = of_kinds("supervised")
# Those that see what the minority looks like, and those that model the majority: the kind between is both.
labelled_members = of_kinds("semisupervised", "supervised")
majority_members = of_kinds("oneclass", "semisupervised")
oneclass_members = of_kinds("oneclass")

CONTEXT = FitContext(seed=7)


@cache
def all_rows(n_classes: int = 2) -> ArrayRows:
    return synthetic_rows((60, 20) if n_classes == 2 else (40, 30, 20))


@cache
def train_positions(n_classes: int = 2) -> tuple[int, ...]:
    return tuple(range(0, len(all_rows(n_classes)), 1))[: len(all_rows(n_classes)) * 3 // 4]


def training_rows(n_classes: int = 2) -> ArrayRows:
    return all_rows(n_classes).subset(np.array(train_positions(n_classes)))


@cache
def new_rows(n_classes: int = 2) -> ArrayRows:
    return synthetic_rows((30, 30) if n_classes == 2 else (20, 20, 20), seed=1)


@cache
def fitted(case_id: str) -> Member:
    return BY_ID[case_id].build().fit(training_rows(), CONTEXT)


@cache
def fitted_briefly(case_id: str) -> Member:
    return brief(BY_ID[case_id]).build().fit(training_rows(), CONTEXT)


@cache
def fitted_again(case_id: str) -> tuple[Member, bool]:
    """A second brief fit of the same rows, and whether it left the global random states as they were."""
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    member = brief(BY_ID[case_id]).build().fit(training_rows(), CONTEXT)
    torch_kept = torch.equal(torch.get_rng_state(), torch_state)
    return member, torch_kept and np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def equal_states(one: Member, other: Member) -> bool:
    (arrays, meta), (other_arrays, other_meta) = one.state(), other.state()
    assert arrays.keys() == other_arrays.keys()
    return meta == other_meta and all(np.array_equal(arrays[name], other_arrays[name]) for name in arrays)


@all_members
def test_kind_and_needs_are_what_the_registry_and_contract_say(case):
    member = case.build()
    assert member.kind == entry_of(case.type).kind
    assert member.score_meaning in {"anomaly_score", "logit"}
    assert member.needs
    assert member.needs <= {"pooled", "patches", "images"}


@all_members
def test_scores_are_one_finite_float32_column(case):
    scores = fitted(case.id).score(new_rows())
    assert scores.shape == (len(new_rows()), 1)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


@all_members
def test_minority_scores_higher(case):
    scores = fitted(case.id).score(new_rows())[:, 0]
    assert roc_auc_score(new_rows().labels, scores) > 0.8


@all_members
def test_no_score_difference_where_there_is_no_difference(case):
    """Guards the test above: the planted direction, not the row order or the label, makes the score."""
    alike = synthetic_rows((200, 200), seed=5, strength=0.0)
    assert abs(roc_auc_score(alike.labels, fitted(case.id).score(alike)[:, 0]) - 0.5) < 0.12


@all_members
def test_same_seed_gives_the_same_bits(case):
    again, _ = fitted_again(case.id)
    assert np.array_equal(again.score(new_rows()), fitted_briefly(case.id).score(new_rows()))
    assert equal_states(again, fitted_briefly(case.id))


@all_members
def test_fit_leaves_the_global_random_state_alone(case):
    _, kept = fitted_again(case.id)
    assert kept


@all_members
def test_rows_outside_the_selection_do_not_matter(case):
    rows = training_rows()
    outside = np.setdiff1d(np.arange(len(rows.base.labels)), rows.positions)
    elsewhere = scrambled(rows, outside)
    flipped = rows.base.labels.copy()
    flipped[outside] = 1 - flipped[outside]
    other = brief(case).build().fit(relabelled(elsewhere, flipped), CONTEXT)
    assert equal_states(other, fitted_briefly(case.id))


@oneclass_members
def test_rows_inside_the_selection_do_matter(case):
    """Guards the test above, which a member that reads nothing would pass.

    That of the other kinds is that minority rows matter to them.
    """
    rows = training_rows()
    other = brief(case).build().fit(scrambled(rows, rows.positions[rows.labels == 0][:10]), CONTEXT)
    assert not equal_states(other, fitted_briefly(case.id))


@oneclass_members
def test_minority_rows_do_not_matter_to_one_class_members(case):
    rows = training_rows()
    other = brief(case).build().fit(scrambled(rows, rows.positions[rows.labels == 1]), CONTEXT)
    assert equal_states(other, fitted_briefly(case.id))
    without = brief(case).build().fit(rows.subset(np.flatnonzero(rows.labels == 0)), CONTEXT)
    assert np.array_equal(without.score(new_rows()), fitted_briefly(case.id).score(new_rows()))


@labelled_members
def test_minority_rows_matter_to_all_other_members(case):
    """Guards the two tests above, and that a semi-supervised member does use what it is given."""
    rows = training_rows()
    other = brief(case).build().fit(scrambled(rows, rows.positions[rows.labels == 1]), CONTEXT)
    assert not equal_states(other, fitted_briefly(case.id))


@all_members
def test_saved_and_restored_member_scores_alike(case, tmp_path):
    arrays, meta = fitted(case.id).state()
    path = tmp_path / "member.npz"
    write_arrays(path, arrays, meta)  # refuses whatever would need pickle
    restored = case.build().restore(*read_arrays(path))
    assert np.array_equal(restored.score(new_rows()), fitted(case.id).score(new_rows()))
    assert equal_states(restored, fitted(case.id))


@all_members
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_module_repeats_score_at_any_batch_size(case, batch):
    member = fitted(case.id)
    module = member.to_module().eval()
    [features] = feature_batches(new_rows(), member.needs, "cpu")
    n = len(new_rows())

    def part(tensor, rows):
        return tensor[rows] if len(tensor) else tensor

    for start in range(0, min(n, 3 * batch), batch):
        rows = slice(start, start + batch)
        with torch.inference_mode():
            scores, score_map = module(BackboneFeatures(*(part(tensor, rows) for tensor in features)))
        assert scores.shape == (min(batch, n - start), 1)
        np.testing.assert_allclose(scores.numpy(), member.score(new_rows())[rows], rtol=1e-4, atol=1e-5)
        if score_map is not None:
            side = case.settings.get("map_size", new_rows().shapes.patch_grid)
            if member.needs == {"images"}:
                # A member of its own pixels has a grid of its own.
                side = score_map.shape[-1]
            assert score_map.shape == (len(scores), side, side)
            assert torch.isfinite(score_map).all()


@all_members
def test_module_reads_only_what_it_says_it_needs(case):
    """The other inputs are empty while scoring; touching one would fail or change the shape."""
    member = fitted(case.id)
    [features] = feature_batches(new_rows(), member.needs, "cpu")
    empty = {name for name, tensor in zip(features._fields, features, strict=True) if len(tensor) == 0}
    assert empty == {"pooled", "patches", "images"} - member.needs


@majority_members
def test_no_majority_rows_is_a_data_error(case):
    rows = training_rows()
    with pytest.raises(DataError, match="majority"):
        case.build().fit(rows.subset(np.flatnonzero(rows.labels == 1)), CONTEXT)


@supervised_members
@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_class_is_a_data_error(case, missing):
    rows = training_rows()
    with pytest.raises(DataError, match=rf"class {missing} has 0 training images"):
        case.build().fit(rows.subset(np.flatnonzero(rows.labels != missing)), CONTEXT)


@all_members
def test_an_unfitted_member_has_no_module(case):
    with pytest.raises(DataError, match="not fitted"):
        case.build().to_module()


@all_members
def test_three_classes(case):
    member = case.build().fit(training_rows(3), CONTEXT)
    rows = new_rows(3)
    scores = member.score(rows)
    assert scores.shape == (len(rows), 3 if member.kind == "supervised" else 1)
    assert scores.dtype == np.float32
    assert roc_auc_score(rows.labels == 2, scores[:, -1]) > 0.8 if member.kind == "supervised" else True
    if member.kind == "supervised":
        np.testing.assert_allclose(scores.sum(axis=1), 0.0, atol=1e-4)
        assert (scores.argmax(axis=1) == rows.labels).mean() > 0.6
    restored = case.build().restore(*member.state())
    assert np.array_equal(restored.score(rows), scores)


@majority_members
def test_one_class_members_learn_from_every_class_but_the_last(case):
    """With three classes the first two are the majority: neither stands out, and both shape the member."""
    rows = training_rows(3)
    both = brief(case).build().fit(rows, CONTEXT)
    only_first = brief(case).build().fit(rows.subset(np.flatnonzero(rows.labels == 0)), CONTEXT)
    assert not np.array_equal(both.score(new_rows(3)), only_first.score(new_rows(3)))
