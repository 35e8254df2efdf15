"""Deep SVDD from pixels: the published network, its input, and the autoencoder it starts from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from contracts.errors import MemberCollapsedError
from contracts.member import FitContext
from features.tensors import BackboneFeatures
from oneclass.deep import deep_svdd_pixels
from oneclass.deep.deep_svdd_pixels import DeepSVDDPixels, LeNetModule, contrast_normalised
from oneclass.deep.lenet import LeNetForm, decoder, encoder
from oneclass.deep.settings import DeepSVDDPixelsSettings
from tests.rows import synthetic_rows

SMALL = {"filters": (4, 4), "embedding_dim": 8, "pretrain_epochs": 1, "epochs": 2, "batch_size": 32}


def fitted(rows=None, record=lambda *point: None, **settings):
    member = DeepSVDDPixels(DeepSVDDPixelsSettings(**{**SMALL, **settings}))
    return member.fit(rows or synthetic_rows((30, 10)), FitContext(3, record=record))


def form_of(**settings):
    s = DeepSVDDPixelsSettings(**settings)
    return LeNetModule(s, torch.tensor(0.0), torch.tensor(1.0)).form


def test_the_papers_two_forms():
    assert form_of(image_size=28, colours="gray") == LeNetForm(28, 1, (8, 4), 32)
    assert form_of(image_size=32) == LeNetForm(32, 3, (32, 64, 128), 128)
    shapes = [tuple(weight.shape) for weight in encoder(form_of(image_size=28, colours="gray")).parameters()]
    assert shapes == [(8, 1, 5, 5), (4, 8, 5, 5), (32, 4 * 7 * 7)]
    shapes = [tuple(weight.shape) for weight in encoder(form_of(image_size=32)).parameters()]
    assert shapes == [(32, 3, 5, 5), (64, 32, 5, 5), (128, 64, 5, 5), (128, 128 * 4 * 4)]


def test_no_layer_has_a_bias_or_scales_its_batch_normalisation():
    form = form_of()
    for half in (encoder(form), decoder(form)):
        assert not [name for name, _ in half.named_parameters() if "bias" in name]
        assert all(not layer.affine for layer in half.modules() if isinstance(layer, nn.BatchNorm2d))
    assert any("bias" in name for name, _ in encoder(form_of(bias=True)).named_parameters())


@pytest.mark.parametrize(("image_size", "channels"), [(28, 1), (28, 3), (32, 1), (32, 3)])
def test_decoder_gives_images_of_the_size_it_was_coded_from(image_size, channels):
    form = LeNetForm.of(image_size, channels, None, None, False)
    images = torch.rand(3, channels, image_size, image_size)
    decoded = decoder(form)(encoder(form)(images))
    assert decoded.shape == images.shape
    assert decoded.min() >= 0
    assert decoded.max() <= 1


def test_order_of_pooling_and_leaky_relu_changes_nothing():
    """The paper's order, layer by layer, against the cheaper one."""
    form = form_of(image_size=28, colours="gray")
    net = encoder(form).eval()
    images = torch.rand(5, 1, 28, 28)
    first, norm, _, _, second, other_norm, _, _, _, last = net
    maps = nn.functional.max_pool2d(nn.functional.leaky_relu(norm(first(images)), 0.1), 2)
    maps = nn.functional.max_pool2d(nn.functional.leaky_relu(other_norm(second(maps)), 0.1), 2)
    torch.testing.assert_close(net(images), last(maps.flatten(1)))


def test_too_many_halvings_are_refused():
    with pytest.raises(ValidationError, match="3 convolutions halve 28 px too often; name at most 2"):
        DeepSVDDPixelsSettings(image_size=28, filters=(4, 4, 4))


@pytest.mark.parametrize("colours", ["gray", "rgb"])
def test_contrast_normalisation_against_a_slow_reference(colours):
    images = synthetic_rows((4, 0)).images(np.arange(4))
    got = contrast_normalised(
        torch.from_numpy(images).permute(0, 3, 1, 2).float(),
        DeepSVDDPixelsSettings(image_size=32, colours=colours),
    )
    for image, normalised in zip(images.astype(np.float64), got.numpy(), strict=True):
        expected = image.transpose(2, 0, 1)
        if colours == "gray":
            expected = np.tensordot([0.299, 0.587, 0.114], expected, axes=1)[None]
        expected = expected - expected.mean()
        expected = expected / np.abs(expected).mean()
        np.testing.assert_allclose(normalised, expected, atol=1e-4)


def test_an_image_of_one_colour_has_no_contrast_and_no_nan():
    settings = DeepSVDDPixelsSettings()
    assert contrast_normalised(torch.full((2, 3, 40, 40), 77.0), settings).abs().max() < 0.1


def test_inputs_of_the_majority_fill_0_to_1_and_no_other_row_matters():
    rows = synthetic_rows((30, 30), strength=3.0)
    module = fitted(rows).raw_module()
    majority = np.flatnonzero(rows.labels == 0)
    images = torch.from_numpy(rows.images(majority)).permute(0, 3, 1, 2).float()
    inputs = module.inputs_of(BackboneFeatures(images, torch.empty(0), torch.empty(0)))
    assert float(inputs.min()) == pytest.approx(0.0, abs=1e-6)
    assert float(inputs.max()) == pytest.approx(1.0, abs=1e-6)
    others = torch.from_numpy(rows.images(np.flatnonzero(rows.labels == 1))).permute(0, 3, 1, 2).float()
    beyond = module.inputs_of(BackboneFeatures(others, torch.empty(0), torch.empty(0)))
    assert not (float(beyond.min()) == 0.0 and float(beyond.max()) == 1.0)


def test_the_autoencoder_learns_and_the_network_starts_from_it():
    points = []
    pretrained = fitted(pretrain_epochs=8, record=lambda *point: points.append(point))
    losses = [value for metric, value, _ in points if metric == "reconstruction_loss"]
    assert len(losses) == 8
    assert losses[-1] < 0.9 * losses[0]
    random = fitted(pretrain_epochs=0)
    assert not np.array_equal(
        pretrained.score(synthetic_rows((30, 10))), random.score(synthetic_rows((30, 10)))
    )


@pytest.mark.parametrize("objective", ["one_class", "soft_boundary"])
def test_radius_is_the_quantile_of_the_fitted_distances(objective):
    rows = synthetic_rows((30, 10))
    member = fitted(rows, objective=objective, nu=0.2, warm_up_epochs=1)
    distances = member.raw_score(rows.subset(np.flatnonzero(rows.labels == 0)))[:, 0]
    assert float(member.raw_module().radius) == pytest.approx(np.quantile(distances, 0.8), rel=1e-3)


def test_fine_tuning_is_slower_than_searching():
    rows = synthetic_rows((30, 10))
    steady, slowed = fitted(rows, fine_tune_share=0.0), fitted(rows, fine_tune_share=0.5)
    assert not np.array_equal(steady.score(rows), slowed.score(rows))


def test_kept_and_streamed_inputs_give_the_same_member(monkeypatch):
    rows = synthetic_rows((30, 10))
    kept = fitted(rows)
    monkeypatch.setattr(deep_svdd_pixels, "_PRELOAD_BYTES", 0)
    np.testing.assert_allclose(fitted(rows).score(rows), kept.score(rows), rtol=1e-4)


def test_constant_images_collapse_after_every_initialisation():
    rows = synthetic_rows((30, 10))
    rows.base.images[:] = rows.base.images[:1]
    sentences = []
    member = DeepSVDDPixels(DeepSVDDPixelsSettings(**SMALL))
    with pytest.raises(MemberCollapsedError, match=r"deep_svdd_pixels: collapsed.* 3 initialisations"):
        member.fit(rows, FitContext(0, report=sentences.append))
    assert len(sentences) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"centre": "origin"}, "collapsed, the centre is the origin, which all-zero weights reach"),
        (
            {"bias": True},
            r"collapsed, 5 layers have a bias \(encoder.0.bias\), and biases alone reach the centre",
        ),
    ],
)
def test_a_trivial_solution_is_refused_before_any_training(settings, said):
    points = []
    with pytest.raises(MemberCollapsedError, match=f"deep_svdd_pixels: {said}"):
        fitted(record=lambda *point: points.append(point), **settings)
    assert points == []
