"""Random changes to images: what they leave alone, how far they go, and whose label a mixed row has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from supervised.settings import AugmentSettings
from supervised.whole_cnn.augmentation import image_transform, mix_rows
from supervised.whole_cnn.pixels import PixelDataset
from tests.rows import synthetic_rows


def picture(size=64):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 8, 8, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")[0].to(torch.uint8)


@pytest.mark.parametrize(
    "settings",
    [
        {"rotation": 20.0},
        {"zoom": 0.15},
        {"shift": 0.2},
        {"shear": 0.15},
        {"erasing": 1.0},
        {"augmix": True},
        {"rotation": 20.0, "zoom": 0.15, "shift": 0.2, "shear": 0.15, "erasing": 0.5, "augmix": True},
    ],
    ids=" ".join,
)
def test_images_change_and_keep_shape_and_type(settings):
    change = image_transform(AugmentSettings(flips="none", **settings), 64)
    torch.manual_seed(0)
    changed = [change(picture()) for _ in range(5)]
    assert all(image.shape == (3, 64, 64) and image.dtype == torch.uint8 for image in changed)
    assert not any(torch.equal(image, picture()) for image in changed)
    assert len({image.numpy().tobytes() for image in changed}) == 5


def test_nothing_asked_for_changes_nothing():
    assert torch.equal(image_transform(AugmentSettings(flips="none"), 64)(picture()), picture())


def test_shifts_go_as_far_as_said_and_uncover_no_black():
    change = image_transform(AugmentSettings(flips="none", shift=0.25), 64)
    ramp = torch.arange(64).expand(3, 64, 64).to(torch.uint8) + 100
    torch.manual_seed(0)
    middles = []
    for _ in range(200):
        changed = change(ramp)
        assert changed.min() >= 100
        middles.append(int(changed[0, 32, 32]) - 132)
    assert -16 <= min(middles) < -13
    assert 13 < max(middles) <= 16


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_a_mixed_row_is_made_of_the_two_rows_its_shares_name(mix):
    pixels = torch.stack([torch.full((3, 16, 16), float(10 * i)) for i in range(6)])
    torch.manual_seed(0)
    mixed, shares = mix_rows(AugmentSettings(mix=mix), pixels)
    assert shares.shape == (6, 6)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))
    # Flat images: the mean is the shares' mean of the values, for a blend and for a pasted rectangle.
    torch.testing.assert_close(
        mixed.mean(dim=(1, 2, 3)), shares @ (10.0 * torch.arange(6)), atol=1e-3, rtol=0
    )
    assert ((shares > 0).sum(dim=1) == 2).all()


def test_batches_carry_the_label_of_each_part():
    rows = synthetic_rows((8, 4))
    dataset = PixelDataset(rows, np.arange(12), 16, AugmentSettings(flips="none", mix="mixup"))
    plain = PixelDataset(rows, np.arange(12), 16)
    torch.manual_seed(0)
    minority, majority = (np.flatnonzero(rows.labels == k) for k in (1, 0))
    indices = [int(majority[0]), int(minority[0]), int(majority[1]), int(minority[1])]
    batch, originals = dataset.__getitems__(indices), plain.__getitems__(indices)
    assert batch.labels.tolist() == [0, 1, 0, 1]
    assert batch.partner_labels.tolist() == [1, 0, 1, 0]
    share = batch.share[0]
    expected = share * originals.pixels.float() + (1 - share) * originals.pixels.float().roll(1, 0)
    torch.testing.assert_close(batch.pixels, expected)


def test_generated_images_follow_the_rows():
    rows = synthetic_rows((8, 4))
    generated = (torch.full((2, 3, 16, 16), 7, dtype=torch.uint8), torch.tensor([1, 1]))
    dataset = PixelDataset(rows, np.arange(12), 16, None, generated)
    assert len(dataset) == 14
    batch = dataset.__getitems__([int(np.flatnonzero(rows.labels == 0)[0]), 13])
    assert (batch.pixels[1] == 7).all()
    assert batch.labels.tolist() == [0, 1]
