"""The fine-tuned CNN: early stopping, batches, divergence, weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contracts.errors import DataError, MemberCollapsedError
from contracts.member import FitContext
from features.settings import TrunkSettings
from supervised import tuned
from supervised.labels import early_stopping_split
from supervised.objective import Objective
from supervised.settings import CnnSettings
from supervised.tuned import TunedCnn
from tests.rows import synthetic_rows

BACKBONE = TrunkSettings(name="test_resnet", weights="random", image_size=32)
SMALL = {"tune": "full", "image_size": 32, "epochs": 2, "batch_size": 16, "learning_rate": 3e-3}


def build(**settings):
    return TunedCnn(CnnSettings(**{**SMALL, **settings}), BACKBONE)


def test_a_class_needs_five_images():
    with pytest.raises(DataError, match="class 1 has 4 training images but 5 are needed"):
        build().fit(synthetic_rows((20, 4)), FitContext(0))


def test_the_best_epoch_is_kept_and_reported():
    sentences = []
    rows = synthetic_rows()
    member = build(epochs=5, patience=1, learning_rate=0.05).fit(rows, FitContext(0, report=sentences.append))
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
    module = build(flips=flips)
    training = tuned._Tuning(
        tuned.TunedModule(module.settings, BACKBONE, 2), module.settings, np.array([0, 1])
    )
    pixels = torch.arange(4.0).reshape(1, 1, 2, 2).expand(200, 3, 2, 2)
    torch.manual_seed(0)
    seen = {tuple(image[0].flatten().tolist()) for image in training._flip(pixels)}
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
    backbone = TrunkSettings(name=name, weights="random")
    module = tuned.TunedModule(CnnSettings(**SMALL), backbone, 3).eval()
    assert module.logits(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_images_are_resized_antialiased_to_the_cnns_own_size():
    module = tuned.TunedModule(CnnSettings(**SMALL), BACKBONE, 2)
    checkerboard = 255.0 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2).expand(1, 3, 64, 64)
    resized = module.resize(checkerboard)
    assert resized.shape == (1, 3, 32, 32)
    assert (resized[:, :, 2:-2, 2:-2] - 127.5).abs().max() < 1.0


def test_batch_normalisation_keeps_the_statistics_of_pre_training():
    member = build(epochs=1)
    before = tuned.TunedModule(member.settings, BACKBONE, 2).state_dict()
    arrays, _ = member.fit(synthetic_rows(), FitContext(0)).state()
    statistics = [name for name in arrays if "running_" in name]
    assert statistics
    assert all(np.array_equal(arrays[name], before[name].numpy()) for name in statistics)
    assert not np.array_equal(arrays["classifier.fc.weight"], before["classifier.fc.weight"].numpy())
