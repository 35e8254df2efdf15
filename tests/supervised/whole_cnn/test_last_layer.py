"""The last linear layer of timm's and torchvision's models, and what it reads."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import nn

from contracts.errors import UsageError
from features.settings import BackboneSettings
from features.weights import build_classifier
from supervised.settings import CnnSettings
from supervised.whole_cnn import last_layer
from supervised.whole_cnn.last_layer import exchanged, frozen_features, last_linear, put_last_linear
from supervised.whole_cnn.module import TunedModule
from supervised.whole_cnn.pixels import PixelDataset
from tests.rows import synthetic_rows

BACKBONES = ["test_resnet", "tf_efficientnet_lite0", "torchvision:mobilenet_v3_small", "small_cnn_16"]


def network_of(name, n_classes):
    settings = CnnSettings(tune="full", image_size=32)
    return TunedModule(settings, BackboneSettings(name=name, weights="random"), n_classes)


@pytest.mark.parametrize("name", BACKBONES)
def test_logits_are_the_last_layer_of_the_features(name, monkeypatch):
    monkeypatch.setattr(last_layer, "_BATCH", 4)
    network, rows = network_of(name, 3), synthetic_rows((4, 3, 2))
    features = frozen_features(network, PixelDataset(rows, np.arange(9), 32))
    path, last = last_linear(network.classifier)
    assert features.shape == (9, last.in_features)
    assert network.classifier.get_submodule(path) is last
    pixels = torch.from_numpy(rows.images(np.arange(9))).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        logits = network.eval().logits(pixels)
    torch.testing.assert_close(last(features), logits, rtol=1e-3, atol=1e-4)


def test_features_can_be_learned_from():
    features = frozen_features(
        network_of("test_resnet", 2), PixelDataset(synthetic_rows((2, 2)), np.arange(4), 32)
    )
    nn.Linear(features.shape[1], 2)(features).sum().backward()


def test_the_last_layers_numbers_are_replaced():
    network = network_of("test_resnet", 2)
    _, last = last_linear(network.classifier)
    put_last_linear(network.classifier, torch.zeros_like(last.weight), torch.tensor([1.0, 3.0]))
    assert network.eval().logits(torch.zeros(1, 3, 32, 32)).tolist() == [[1.0, 3.0]]


def test_the_own_layer_comes_back_after_an_error():
    classifier, _, _ = build_classifier("test_resnet", "random", 2)
    _, own = last_linear(classifier)
    with pytest.raises(KeyboardInterrupt), exchanged(classifier, nn.Identity()):
        raise KeyboardInterrupt
    assert last_linear(classifier)[1] is own


@pytest.mark.parametrize(
    "classifier", [nn.Conv2d(3, 2, 1), timm.create_model("test_resnet", num_classes=0)], ids=["conv", "none"]
)
def test_a_model_without_one_is_refused(classifier):
    with pytest.raises(UsageError, match="do not come from one linear layer"):
        last_linear(classifier)
