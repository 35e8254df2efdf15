"""Random changes to training images, by torchvision's v2 transforms; torch's global generator decides."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from supervised.settings import AugmentSettings


def image_transform(settings: AugmentSettings, size: int) -> Any:
    """A transform of one image, ``[3, s, s]`` uint8 to the same.

    Corners that a rotation, shift or shrinking uncovers are filled with the image's own mirror, as black
    corners would be a mark of their own.

    Args:
        settings: what to change, how far.
        size: s, in pixels.
    """
    steps: list[Any] = []
    if settings.flips != "none":
        steps.append(v2.RandomHorizontalFlip())
    if settings.flips == "both":
        steps.append(v2.RandomVerticalFlip())
    if settings.rotation or settings.zoom or settings.shift or settings.shear:
        margin = min(size - 1, math.ceil(size / 2))
        # Of the image, not of the padded one that the transform sees.
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
        Mixed pixels, and ``[B, B]`` shares: row i is made of share (i, j) of row j; rows sum to 1. Losses
        are mixed by the same shares, which for cross-entropy is the published soft label and works for
        every loss of single rows.
    """
    n = len(pixels)
    # The transforms one-hot whatever labels they are given: row numbers give back who is in whom.
    row_numbers = torch.arange(n, device=pixels.device)
    if settings.mix == "mixup":
        mixed, shares = v2.MixUp(alpha=settings.mix_alpha, num_classes=n)(pixels, row_numbers)
    else:
        mixed, shares = v2.CutMix(alpha=settings.mix_alpha, num_classes=n)(pixels, row_numbers)
    return mixed, shares.to(pixels.dtype)
