"""Mean-shifted adaptation: the loss, what is trained, and the random views."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from contracts.errors import MemberCollapsedError, UsageError
from contracts.member import FitContext
from features.settings import BackboneSettings
from oneclass.neighbours.mean_shifted import MeanShifted, _Embedding, last_stage, mean_shifted_loss
from oneclass.neighbours.settings import MeanShiftedSettings
from oneclass.neighbours.views import random_views
from tests.rows import synthetic_rows

BACKBONE = BackboneSettings(
    name="test_resnet", weights="random", image_size=32, patch_strides=(4, 8), pooled_strides=(8, 16)
)


def fitted(rows=None, report=lambda sentence: None, record=lambda *point: None, **settings):
    member = MeanShifted(
        MeanShiftedSettings(**{"image_size": 32, "epochs": 2, "batch_size": 16, **settings}), BACKBONE
    )
    return member.fit(synthetic_rows() if rows is None else rows, FitContext(3, "cpu", report, record))


def test_loss_against_a_slow_reference():
    generator = torch.Generator().manual_seed(0)
    phi = torch.nn.functional.normalize(torch.randn(10, 6, generator=generator), dim=1)
    centre, tau = 0.3 * torch.randn(6, generator=generator), 0.25
    theta = [(row - centre) / (row - centre).norm() for row in phi]
    terms = []
    for i in range(10):
        partner = (i + 5) % 10
        others = [torch.exp(theta[i] @ theta[j] / tau) for j in range(10) if j != i]
        terms.append(-torch.log(torch.exp(theta[i] @ theta[partner] / tau) / sum(others)))
    got = mean_shifted_loss(phi[:5], phi[5:], centre, tau)
    assert float(got) == pytest.approx(float(sum(terms) / 10), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("tf_efficientnet_lite0", "blocks.5.0.conv_dw", "bn2"),
        ("resnet18", "layer4.0.conv1", "layer4.1.bn2"),
    ],
)
def test_last_stage_starts_where_the_resolution_falls_last(name, first, last):
    model = timm.create_model(name).eval()
    name_of = {layer: path for path, layer in model.named_modules()}
    names = [name_of[layer] for layer in last_stage(model, torch.zeros(1, 3, 128, 128))]
    assert names[0] == first
    assert last in names
    assert not [path for path in names if path.startswith(("blocks.4.", "layer3."))]


def test_a_network_without_stages_is_refused():
    model = timm.create_model("test_vit").eval()
    with pytest.raises(UsageError, match="no stages of decreasing resolution"):
        last_stage(model, torch.zeros(1, 3, 160, 160))


def test_only_the_last_stage_learns():
    start = _Embedding(MeanShifted(MeanShiftedSettings(image_size=32), BACKBONE).own_network).state_dict()
    end = fitted(learning_rate=1e-2).raw_module().embedding.state_dict()
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed
    assert all("layer4" in name for name in changed), changed
    assert not [name for name in changed if "running" in name]  # batch statistics stay


def test_losses_are_recorded_and_fall():
    points, sentences = [], []
    fitted(epochs=4, learning_rate=1e-2, record=lambda *point: points.append(point), report=sentences.append)
    assert [step for _, _, step in points] == [1, 2, 3, 4]
    assert points[-1][1] < points[0][1]
    assert sentences[0].startswith("mean-shifted loss ")


def test_bank_and_images_are_bounded():
    sentences = []
    member = fitted(bank_size=20, max_images=30, report=sentences.append)
    assert member.raw_module().nearest.bank.shape[0] == 20
    assert sentences[0].endswith("on 30 images")
    norms = member.raw_module().nearest.bank.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(20))


def test_constant_images_are_a_collapse():
    rows = synthetic_rows()
    rows.base.images[:] = rows.base.images[:1]
    with pytest.raises(MemberCollapsedError, match="mean_shifted: collapsed"):
        fitted(rows)


@pytest.mark.parametrize("majority", [1, 17])
def test_a_single_image_and_a_last_batch_of_one(majority):
    rows = synthetic_rows((majority, 3))
    assert np.isfinite(fitted(rows).score(rows)).all()


def gradient_images(n=64, side=24):
    """Brightness rises to the right in red, downwards in green; blue is even."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    image = torch.stack([10.0 * x, 10.0 * y, torch.full((side, side), 100.0)])
    return image.expand(n, -1, -1, -1).clone()


def test_a_whole_view_without_changes_is_the_image():
    images = gradient_images()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # A part of 3:4 cannot cover a square, so sides are cut at 1 and a little may be missing.
        view = random_views(images, 1.0, "none", 0.0)
    assert view.shape == images.shape
    assert float((view - images).abs().mean()) < 15.0


@pytest.mark.parametrize(("flips", "across", "down"), [("none", 0, 0), ("horizontal", 1, 0), ("both", 1, 1)])
def test_views_are_mirrored_only_as_asked(flips, across, down):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        view = random_views(gradient_images(), 0.5, flips, 0.0)
    to_the_left = (view[:, 0, :, 0] > view[:, 0, :, -1]).all(dim=1).float().mean()
    upside_down = (view[:, 1, 0] > view[:, 1, -1]).all(dim=1).float().mean()
    assert (0.3 < to_the_left < 0.7) if across else to_the_left == 0
    assert (0.3 < upside_down < 0.7) if down else upside_down == 0
    assert view[:, 2].std() < 1e-3


def test_colour_changes_stay_in_range_and_differ_between_images():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        view = random_views(gradient_images(), 1.0, "none", 0.4)
    assert view.min() >= 0
    assert view.max() <= 255
    assert view[:, 2].mean(dim=(1, 2)).std() > 5
