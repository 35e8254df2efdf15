"""Random augmentation by torchvision's v2 transforms; random numbers come from torch's global generator."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from supervised.settings import AugmentSettings


def image_transform(settings: AugmentSettings, size: int) -> Any:
    """A transform from one ``[3, s, s]`` uint8 image to another.

    Corners that a rotation, shift or shrinking uncovers are filled by reflection, because a network could
    recognise black corners.

    Args:
        settings: which changes, how strong.
        size: s, in pixels.
    """
    steps: list[Any] = []
    if settings.flips != "none":
        steps.append(v2.RandomHorizontalFlip())
    if settings.flips == "both":
        steps.append(v2.RandomVerticalFlip())
    if settings.rotation or settings.zoom or settings.shift or settings.shear:
        margin = min(size - 1, math.ceil(size / 2))
        # RandomAffine takes a share of the image it sees, which is padded here.
        shift = settings.shift * size / (size + 2 * margin)
        shear = math.degrees(math.atan(settings.shear))
        steps += [
            v2.Pad(margin, padding_mode="reflect"),
            v2.RandomAffine(
                settings.rotation,
                translate=(shift, shift),
                scale=(1.0 - settings.zoom, 1.0 + settings.zoom),
                shear=shear or None,
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.CenterCrop(size),
        ]
    if settings.augmix:
        steps.append(v2.AugMix())
    if settings.erasing:
        steps.append(v2.RandomErasing(settings.erasing))
    return v2.Compose(steps) if steps else v2.Identity()


def mix_rows(settings: AugmentSettings, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Blend the rows of a batch in pairs.

    Args:
        settings: ``mix`` and ``mix_alpha``.
        pixels: ``[B, 3, s, s]`` float32.

    Returns:
        Mixed pixels, and ``[B, B]`` shares: entry (i, j) is the share of row j in row i; rows sum to 1.
        Losses are mixed by the same shares. For cross-entropy that equals the published soft labels, and it
        works for every loss that is defined per row.
    """
    n = len(pixels)
    # The transforms return one-hot labels, mixed: with row numbers as labels, that is the matrix of shares.
    row_numbers = torch.arange(n, device=pixels.device)
    if settings.mix == "mixup":
        mixed, shares = v2.MixUp(alpha=settings.mix_alpha, num_classes=n)(pixels, row_numbers)
    else:
        mixed, shares = v2.CutMix(alpha=settings.mix_alpha, num_classes=n)(pixels, row_numbers)
    return mixed, shares.to(pixels.dtype)
