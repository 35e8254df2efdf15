"""SimCLR: the loss against a double loop, views, what changes in the backbone and what must not."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from contracts.errors import DataError, MemberCollapsedError
from supervised.whole_cnn import simclr
from supervised.whole_cnn.pixels import Batch
from supervised.whole_cnn.representation_settings import SimclrSettings
from supervised.whole_cnn.simclr import nt_xent, pretrain, random_view

SMALL = {"epochs": 1, "batch_size": 8, "projection_dim": 8, "learning_rate": 1e-3}


class Pixels(torch.utils.data.Dataset):
    """Images of which each has a colour and a stripe of its own; remembers what was asked for."""

    def __init__(self, n_images, size=16, alike=False):
        generator = torch.Generator().manual_seed(3)
        colours = torch.randint(0, 255, (n_images, 3, 1, 1), generator=generator, dtype=torch.uint8)
        self.images = colours.repeat(1, 1, size, size)
        for number in range(n_images):
            self.images[number, :, number % size] = 255
        if alike:
            self.images[:] = self.images[0].clone()
        self.batches = []

    def __len__(self):
        return len(self.images)

    def __getitems__(self, indices):
        self.batches.append(list(indices))
        labels = torch.zeros(len(indices), dtype=torch.int64)
        return Batch(self.images[indices], labels, torch.ones(len(indices)), labels)


class Network(nn.Module):
    """What is asked of a whole CNN: a classifier that ends in a linear layer, and its logits."""

    def __init__(self, dropout=0.0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.classifier = nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Dropout(dropout),
                nn.Linear(8, 2),
            )

    def logits(self, pixels):
        return self.classifier(pixels / 127.5 - 1.0)


def train(network, pixels, seed=0, report=lambda _: None, random_start=True, **settings):
    settings = SimclrSettings(**{**SMALL, **settings})
    pretrain(network, pixels, settings, random_start=random_start, seed=seed, device="cpu", report=report)
    return network


@pytest.mark.parametrize("n_images", [1, 2, 5])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_is_the_papers_double_loop(n_images, temperature):
    z = torch.randn(2 * n_images, 6, generator=torch.Generator().manual_seed(n_images)).double()

    def similarity(i, j):
        cosine = sum(float(a) * float(b) for a, b in zip(z[i], z[j], strict=True))
        return cosine / math.sqrt(sum(float(a) ** 2 for a in z[i]) * sum(float(b) ** 2 for b in z[j]))

    total = 0.0
    for i in range(2 * n_images):
        j = i + n_images if i < n_images else i - n_images
        others = sum(math.exp(similarity(i, k) / temperature) for k in range(2 * n_images) if k != i)
        total -= math.log(math.exp(similarity(i, j) / temperature) / others)
    assert float(nt_xent(z, temperature)) == pytest.approx(total / (2 * n_images), rel=1e-5, abs=1e-6)


def test_nt_xent_of_equal_embeddings_is_guessing():
    assert float(nt_xent(torch.ones(10, 4), 0.5)) == pytest.approx(math.log(9))


def test_the_layers_below_learn_and_the_last_one_stays():
    network = Network()
    before = copy.deepcopy(network.classifier.state_dict())
    sentences = []
    train(network, Pixels(20), report=sentences.append)
    after = network.classifier.state_dict()
    assert after.keys() == before.keys()
    assert not torch.equal(after["0.weight"], before["0.weight"])
    assert not torch.equal(after["1.running_mean"], before["1.running_mean"])
    assert torch.equal(after["6.weight"], before["6.weight"])
    assert len(sentences) == 1
    assert sentences[0].startswith("simclr: loss ")
    assert f"guessing: {math.log(15):.3f}" in sentences[0]


@pytest.mark.parametrize(
    ("batch_norm", "random_start", "kept"),
    [("frozen", True, True), ("trained", False, False), ("auto", True, False), ("auto", False, True)],
)
def test_statistics_of_batch_normalisation(batch_norm, random_start, kept):
    network = Network()
    before = copy.deepcopy(network.classifier.state_dict())
    train(network, Pixels(20), random_start=random_start, batch_norm=batch_norm)
    after = network.classifier.state_dict()
    assert torch.equal(after["1.running_mean"], before["1.running_mean"]) == kept
    assert not torch.equal(after["0.weight"], before["0.weight"])


def test_the_loss_falls():
    losses = {}
    for epochs in (1, 15):
        train(
            Network(),
            Pixels(16),
            report=lambda said, epochs=epochs: losses.update({epochs: float(said.split()[2])}),
            epochs=epochs,
            batch_size=16,
            learning_rate=1e-2,
            colour=0.0,
        )
    # One step; its loss is that of the start.
    assert losses[15] < losses[1] - 0.3


def test_same_seed_same_bits_and_no_global_random_state_touched():
    state = torch.get_rng_state()
    # Whatever was drawn before must not matter either.
    one = train(Network(dropout=0.5), Pixels(20), seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        again = train(Network(dropout=0.5), Pixels(20), seed=4).state_dict()
    other = train(Network(dropout=0.5), Pixels(20), seed=5).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("n_images", [2, 3, 9, 16, 17])
def test_any_number_of_images_from_two_on(n_images):
    """Fewer than a batch of 8, one left over, and exact multiples."""
    pixels = Pixels(n_images)
    network = Network()
    before = network.classifier[0].weight.detach().clone()
    train(network, pixels)
    assert not torch.equal(network.classifier[0].weight, before)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_the_left_over_changes_from_epoch_to_epoch():
    pixels = Pixels(9)
    train(Network(), pixels, epochs=4)
    left_over = [batch[0] for batch in pixels.batches if len(batch) == 1]
    assert len(set(left_over)) > 1


def test_one_image_is_a_data_error():
    with pytest.raises(DataError, match="simclr: 1 training images, but at least 2 are needed"):
        train(Network(), Pixels(1))


def test_equal_features_of_all_images_are_a_collapse():
    with pytest.raises(MemberCollapsedError, match="simclr: collapsed"):
        train(Network(), Pixels(8, alike=True))


def test_divergence_is_a_collapse(monkeypatch):
    monkeypatch.setattr(simclr, "nt_xent", lambda z, temperature: z.sum() * float("nan"))
    with pytest.raises(MemberCollapsedError, match="loss is nan"):
        train(Network(), Pixels(8))


def test_an_interrupt_leaves_a_whole_classifier(monkeypatch):
    def interrupted(z, temperature):
        raise KeyboardInterrupt

    monkeypatch.setattr(simclr, "nt_xent", interrupted)
    network = Network()
    with pytest.raises(KeyboardInterrupt):
        train(network, Pixels(8))
    assert isinstance(network.classifier[6], nn.Linear)


def views_of(image, n_views=40, **settings):
    view = random_view(SimclrSettings(**settings), image.shape[-1])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.stack([view(image) for _ in range(n_views)])


def test_views_are_what_the_settings_say():
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 24, 24), generator=generator, dtype=torch.uint8)
    plain = {"crop_scale_min": 1.0, "colour": 0.0, "blur": 0.0, "flips": "none"}
    views = views_of(image, crop_scale_min=0.2)
    assert views.shape == (40, 3, 24, 24)
    assert views.dtype == torch.float32
    assert views.min() >= 0.0
    assert views.max() <= 1.0 + 1e-6
    assert len(torch.unique(views.flatten(1), dim=0)) == 40
    # A constant image shows colour changes alone, and only where they are asked for.
    grey_blue = torch.tensor([100, 120, 200], dtype=torch.uint8)[:, None, None].expand(3, 24, 24).contiguous()
    coloured = views_of(grey_blue, **{**plain, "colour": 0.5})
    assert len(torch.unique(coloured.mean(dim=(2, 3)), dim=0)) > 20
    unchanged = views_of(grey_blue, **plain)
    torch.testing.assert_close(unchanged, (grey_blue / 255.0).expand(40, 3, 24, 24))


@pytest.mark.parametrize(("flips", "n_seen"), [("none", 1), ("horizontal", 2), ("both", 4)])
def test_flips_of_views(flips, n_seen, monkeypatch):
    monkeypatch.setattr(simclr.v2, "RandomResizedCrop", lambda *_, **__: nn.Identity())
    image = torch.arange(3 * 16, dtype=torch.uint8).reshape(3, 4, 4)
    views = views_of(image, flips=flips, colour=0.0, blur=0.0)
    assert len(torch.unique(views.flatten(1), dim=0)) == n_seen


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 1}, {"temperature": 0.0}, {"crop_scale_min": 0.0}, {"image_size": 64}]
)
def test_settings_refuse_what_cannot_be(wrong):
    with pytest.raises(ValidationError):
        SimclrSettings(**wrong)
