"""The fine-tuned CNN: early stopping, batches, divergence, weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contracts.errors import DataError, MemberCollapsedError
from contracts.member import FitContext
from features.settings import BackboneSettings
from supervised.labels import early_stopping_split
from supervised.objective import Objective
from supervised.settings import AugmentSettings, CnnSettings
from supervised.whole_cnn.augmentation import image_transform
from supervised.whole_cnn.module import TunedModule
from supervised.whole_cnn.tuned import TunedCnn
from tests.rows import synthetic_rows

BACKBONE = BackboneSettings(name="test_resnet", weights="random", image_size=32)
SMALL = {
    "tune": "full",
    "image_size": 32,
    "epochs": 2,
    "batch_size": 16,
    "optimiser": {"learning_rate": 3e-3},
}


def build(**settings):
    return TunedCnn(CnnSettings(**{**SMALL, **settings}), BACKBONE)


def test_a_class_needs_five_images():
    with pytest.raises(DataError, match="class 1 has 4 training images but 5 are needed"):
        build().fit(synthetic_rows((20, 4)), FitContext(0))


def test_the_best_epoch_is_kept_and_reported():
    sentences = []
    rows = synthetic_rows()
    member = build(epochs=5, patience=1, optimiser={"learning_rate": 0.05})
    member.fit(rows, FitContext(0, report=sentences.append))
    assert len(sentences) == 1
    assert sentences[0].startswith("stopped after ")
    best = float(sentences[0].rsplit(" ", 1)[1])
    # The loss of the kept weights on the rows set aside is the reported one.
    _, stop = early_stopping_split(rows.labels, rows.groups, member.settings.validation_share, 0)
    held = rows.subset(stop)
    logit = torch.from_numpy(member.score(held)[:, 0])
    loss = torch.nn.functional.softplus(torch.where(torch.from_numpy(held.labels) == 1, -logit, logit)).mean()
    assert float(loss) == pytest.approx(best, abs=2e-4)


def test_divergence_is_a_collapse(monkeypatch):
    monkeypatch.setattr(Objective, "__call__", lambda self, logits, *rest: logits.sum() * float("nan"))
    with pytest.raises(MemberCollapsedError, match="diverged"):
        build().fit(synthetic_rows(), FitContext(0))


@pytest.mark.parametrize("flips", ["none", "horizontal", "both"])
def test_flips(flips):
    change = image_transform(AugmentSettings(flips=flips), 2)
    pixels = torch.arange(4, dtype=torch.uint8).reshape(1, 2, 2).expand(3, 2, 2)
    torch.manual_seed(0)
    seen = {tuple(change(pixels)[0].flatten().tolist()) for _ in range(100)}
    plain, mirrored, upside_down, both = (0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0)
    assert (
        seen
        == {
            "none": {plain},
            "horizontal": {plain, mirrored},
            "both": {plain, mirrored, upside_down, both},
        }[flips]
    )


def test_no_training_batch_is_a_single_image():
    """Batch normalisation knows no variance of one value, and 33 images leave one over at 32 a batch."""
    rows = synthetic_rows((30, 9))  # 39 rows, 6 set aside, 33 to learn from
    build(batch_size=32, epochs=1).fit(rows, FitContext(0))


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v3_small", "torchvision:resnet18"])
def test_torchvision_backbones_have_their_last_layer_replaced(name):
    backbone = BackboneSettings(name=name, weights="random")
    module = TunedModule(CnnSettings(**SMALL), backbone, 3).eval()
    assert module.logits(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_images_are_resized_antialiased_to_the_cnns_own_size():
    module = TunedModule(CnnSettings(**SMALL), BACKBONE, 2)
    checkerboard = 255.0 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2).expand(1, 3, 64, 64)
    resized = module.resize(checkerboard)
    assert resized.shape == (1, 3, 32, 32)
    assert (resized[:, :, 2:-2, 2:-2] - 127.5).abs().max() < 1.0


@pytest.mark.parametrize("batch_norm", ["frozen", "trained", "auto"])
def test_batch_normalisation_keeps_the_statistics_of_pre_training(batch_norm):
    member = build(epochs=1, batch_norm=batch_norm)
    before = TunedModule(member.settings, BACKBONE, 2).state_dict()
    arrays, _ = member.fit(synthetic_rows(), FitContext(0)).state()
    statistics = [name for name in arrays if "running_" in name]
    assert statistics
    # Random weights, as here, have no statistics worth keeping: there auto trains them.
    kept = all(np.array_equal(arrays[name], before[name].numpy()) for name in statistics)
    assert kept == (batch_norm == "frozen")
    assert not np.array_equal(arrays["classifier.fc.weight"], before["classifier.fc.weight"].numpy())


@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": {"kind": "sgd", "learning_rate": 0.05, "schedule": "step", "warmup": 1}},
        {"optimiser": {"kind": "adam", "learning_rate": 3e-3, "schedule": "constant", "accumulate": 2}},
        {"optimiser": {"learning_rate": 3e-3, "sam": 0.05}},
        {"optimiser": {"learning_rate": 3e-3, "ema": 0.8}},
        {"augment": {"mix": "mixup"}, "loss": "weighted_cross_entropy", "deferred_until": 0.5},
        {"augment": {"mix": "cutmix", "rotation": 20, "zoom": 0.15, "shift": 0.2, "shear": 0.15}},
        {"augment": {"augmix": True, "erasing": 0.5}},
        {"sampler": {"kind": "progressive"}, "gray": True},
        {"sampler": {"kind": "undersample_each_epoch", "cap": 0.5}, "validation_share": 0.0},
    ],
    ids=" ".join,
)
def test_every_way_of_training_gives_finite_scores_and_the_same_twice(settings):
    rows = synthetic_rows((30, 12))
    one, same = (build(**settings).fit(rows, FitContext(3)).score(rows) for _ in range(2))
    assert np.isfinite(one).all()
    assert np.array_equal(one, same)
    assert not np.array_equal(one, build().fit(rows, FitContext(3)).score(rows))


def test_without_rows_set_aside_the_last_epoch_is_kept():
    sentences = []
    rows = synthetic_rows((30, 12))
    build(validation_share=0.0, epochs=3, patience=1).fit(rows, FitContext(0, report=sentences.append))
    assert sentences == ["stopped after 3 epochs"]


def test_divergence_without_rows_set_aside_is_a_collapse_too(monkeypatch):
    monkeypatch.setattr(Objective, "__call__", lambda self, logits, *rest: logits.sum() * float("nan"))
    with pytest.raises(MemberCollapsedError, match="diverged"):
        build(validation_share=0.0).fit(synthetic_rows(), FitContext(0))


def test_grey_networks_do_not_see_colours():
    module = TunedModule(CnnSettings(**SMALL, gray=True), BACKBONE, 2).eval()
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    with torch.inference_mode():
        torch.testing.assert_close(module.logits(pixels), module.logits(luma.expand(-1, 3, -1, -1)))
    coloured = TunedModule(CnnSettings(**SMALL), BACKBONE, 2).eval()
    with torch.inference_mode():
        assert not torch.allclose(coloured.logits(pixels), coloured.logits(luma.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("sampler", ["class_balanced", "oversample", "undersample"])
def test_what_a_sampler_does_to_the_prior_is_taken_back(sampler):
    rows = synthetic_rows((60, 15))
    member = build(sampler={"kind": sampler}, validation_share=0.0).fit(rows, FitContext(0))
    _, meta = member.state()
    assert meta["prior_ledger"]["trained"] == pytest.approx([0.8, 0.2])
    assert meta["prior_ledger"]["effective"] == pytest.approx([0.5, 0.5], abs=0.01)
    correction = member.to_module().correction
    assert float(correction[1] - correction[0]) == pytest.approx(-np.log(4), abs=0.05)


def test_the_ledger_of_progressive_sampling_asks_for_recalibration():
    member = build(sampler={"kind": "progressive"}).fit(synthetic_rows((60, 15)), FitContext(0))
    assert member.state()[1]["prior_ledger"]["recalibrate"] is True
    assert not member.to_module().correction.any()
