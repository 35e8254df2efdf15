"""The autoencoders: shapes, objectives, the penalty and its switches, seeds, interrupts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contracts.errors import MemberCollapsedError
from supervised.synthetic import autoencoders
from supervised.synthetic.autoencoders import Autoencoder, as_bytes, as_signed, fit_autoencoder
from supervised.synthetic.regularisers import kl_to_standard_normal, mmd
from tests.supervised.synthetic.conftest import pictures, small

MODELS = ("ae", "vae", "wae")


def training(**settings):
    """Training of a network whose batch normalisation and noise stand still, so that rows stand alone."""
    torch.manual_seed(0)
    return autoencoders._Training(Autoencoder(small(**settings)).eval(), lambda *_: None)


def signed(n, seed=0):
    return as_signed(torch.from_numpy(pictures((n,), seed)[0]).permute(0, 3, 1, 2))


def fit(images, labels, seed=0, **settings):
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    return fit_autoencoder(pixels, labels, small(**settings), seed, "cpu")


def same_weights(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("side", "gray", "channels"), [(32, False, 3), (48, True, 1)])
def test_shapes(model, side, gray, channels):
    autoencoder = Autoencoder(small(model=model, image_size=side, gray=gray)).eval()
    pixels = torch.zeros(3, channels, side, side)
    mean, log_variance = autoencoder.posterior(pixels)
    assert mean.shape == (3, 8)
    assert log_variance.shape == ((3, 8) if model == "vae" else (3, 0))
    assert autoencoder.decode(mean).shape == pixels.shape
    assert torch.equal(autoencoder.encode(pixels), mean)


def test_pixels_survive_the_way_to_signed_and_back():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(as_bytes(as_signed(every)), every)
    assert as_signed(every).min() == -1
    assert as_signed(every).max() == 1


def test_the_loss_of_a_plain_autoencoder_is_the_mean_squared_error():
    task, pixels = training(), signed(5)
    network = task.autoencoder
    slow = np.mean(
        [(network.decode(network.encode(p[None])) - p[None]).square().mean().item() for p in pixels]
    )
    assert float(task.loss(pixels, pixels[:0]).detach()) == pytest.approx(slow, rel=1e-4)


def test_the_loss_of_a_vae_adds_beta_kl_per_image():
    task, pixels = training(model="vae", beta=3.0), signed(5)
    without = autoencoders._Training(task.autoencoder, lambda *_: None)
    without.settings = small(model="vae", beta=0.0)
    torch.manual_seed(1)
    loss = float(task.loss(pixels, pixels[:0]).detach())
    torch.manual_seed(1)
    plain = float(without.loss(pixels, pixels[:0]))
    kl = float(kl_to_standard_normal(*task.autoencoder.posterior(pixels)))
    assert loss - plain == pytest.approx(3.0 * kl / (3 * 32 * 32), rel=1e-3)


def test_the_loss_of_a_wae_adds_lambda_mmd_per_image():
    task, pixels = training(model="wae", mmd=50.0), signed(5)
    torch.manual_seed(1)
    loss = float(task.loss(pixels, pixels[:0]).detach())
    torch.manual_seed(1)
    codes = task.autoencoder.encode(pixels)
    drawn = mmd(codes, torch.randn_like(codes))
    plain = (task.autoencoder.decode(codes) - pixels).square().mean()
    assert loss == pytest.approx(float(plain + 50.0 * drawn / (3 * 32 * 32)), rel=1e-4)


def test_the_penalty_compares_decoded_codes_of_others_with_images_that_stayed():
    task, pixels = training(penalty=True, penalty_weight=2.0), signed(4)
    one_class = signed(6, seed=1)
    network = task.autoencoder
    slow = np.mean(
        [
            (network.decode(network.encode(one_class[i - 1][None])) - one_class[i]).square().mean().item()
            for i in range(6)
        ]
    )
    added = float(task.loss(pixels, one_class) - task.loss(pixels, one_class[:0]))
    assert added == pytest.approx(2.0 * slow, rel=1e-3)


def test_without_permutation_the_penalty_is_a_second_reconstruction():
    task, pixels, one_class = training(penalty=True, permutation=False), signed(4), signed(6, seed=1)
    network = task.autoencoder
    slow = (network.decode(network.encode(one_class)) - one_class).square().mean()
    added = task.loss(pixels, one_class) - task.loss(pixels, one_class[:0])
    assert float(added) == pytest.approx(float(slow), rel=1e-3)


def test_permuted_codes_are_the_same_codes_and_none_stays():
    codes = torch.arange(10.0)[:, None].expand(10, 3)
    moved = training(penalty=True)._moved(codes)
    assert sorted(moved[:, 0].tolist()) == codes[:, 0].tolist()
    assert not (moved == codes).any()


@pytest.mark.parametrize("encoder_gradient", [True, False])
def test_the_penalty_teaches_the_encoder_only_where_it_may(encoder_gradient):
    task = training(penalty=True, encoder_gradient=encoder_gradient)
    pixels, one_class = signed(4), signed(6, seed=1)
    weight = task.autoencoder.to_code.weight
    (with_penalty,) = torch.autograd.grad(task.loss(pixels, one_class), weight)
    (without,) = torch.autograd.grad(task.loss(pixels, one_class[:0]), weight)
    assert torch.allclose(with_penalty, without, rtol=1e-3, atol=1e-7) is not encoder_gradient
    decoder = task.autoencoder.decoder[0].weight
    (with_penalty,) = torch.autograd.grad(task.loss(pixels, one_class), decoder)
    (without,) = torch.autograd.grad(task.loss(pixels, one_class[:0]), decoder)
    assert not torch.allclose(with_penalty, without, rtol=1e-3)


@pytest.mark.parametrize(("class_balanced", "share"), [(True, 0.5), (False, 0.1)])
def test_rows_of_the_penalty_are_of_one_class_drawn_as_asked(class_balanced, share):
    labels = np.repeat([0, 1], [90, 10]).astype(np.int64)
    # Pixels that say their own class.
    pixels = torch.from_numpy(labels)[:, None, None, None].expand(-1, 3, 2, 2).to(torch.uint8)
    rows = autoencoders._Rows(pixels, labels, small(penalty=True, class_balanced=class_balanced), 0)
    drawn = []
    for _ in range(400):
        _, one_class = rows.__getitems__([0, 1])
        assert len(one_class.unique()) == 1
        assert len(one_class) == (10 if one_class[0, 0, 0, 0] else 16)
        drawn.append(int(one_class[0, 0, 0, 0]))
    assert abs(np.mean(drawn) - share) < 0.08
    assert len(autoencoders._Rows(pixels, labels, small(), 0).__getitems__([0, 1])[1]) == 0


@pytest.mark.parametrize("model", MODELS)
def test_same_seed_same_weights_and_the_callers_random_state_stays(model):
    images, labels = pictures((30, 10))
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, again, other = (fit(images, labels, seed, model=model, penalty=True) for seed in (4, 4, 5))
    assert same_weights(one, again)
    assert not same_weights(one, other)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize("model", MODELS)
def test_fitting_reconstructs_better(model):
    images, labels = pictures((40, 10))
    losses = {}
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    settings = small(model=model, epochs=8, width=8, learning_rate=3e-3)
    fit_autoencoder(pixels, labels, settings, 0, "cpu", lambda epoch, loss: losses.update({epoch: loss}))
    assert list(losses) == list(range(1, 9))
    assert losses[8] < 0.5 * losses[1]


@pytest.mark.parametrize("model", MODELS)
def test_a_single_row_left_over_is_passed_over(model):
    """33 rows leave one over at 32 a batch; it has no discrepancy and no variance."""
    images, labels = pictures((23, 10))
    assert np.isfinite(fit(images, labels, model=model, batch_size=32).to_code.weight.detach().numpy()).all()


def test_divergence_is_a_sentence(monkeypatch):
    monkeypatch.setattr(autoencoders._Training, "loss", lambda self, pixels, _: torch.tensor(float("nan")))
    images, labels = pictures((20, 5))
    with pytest.raises(MemberCollapsedError, match=r"diverged\. Lower synthetic\.learning_rate"):
        fit(images, labels)


def test_an_interrupt_is_handed_on(monkeypatch):
    def interrupted(self, pixels, one_class):
        raise KeyboardInterrupt

    monkeypatch.setattr(autoencoders._Training, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(*pictures((20, 5)))
