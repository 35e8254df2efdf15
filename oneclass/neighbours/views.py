"""Random views of a batch of images, computed together by tensor operations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Flips = Literal["none", "horizontal", "both"]
# ITU-R BT.601, as in Pillow's conversion to grey.
_LUMA = (0.299, 0.587, 0.114)
# ln(4/3): the width of the interval that the logarithm of a crop's stretch is drawn from.
_LOG_RATIO = 0.2876820724517809


def random_views(images: Tensor, crop_scale_min: float, flips: Flips, colour: float) -> Tensor:
    """One view of each image: a random crop at the original size, possibly mirrored, with jittered colours.

    Random numbers come from torch's global generator.

    Args:
        images: ``[N, 3, s, s]`` float32, 0…255.
        crop_scale_min: smallest share of the area that a crop has.
        flips: which reflections may occur.
        colour: strength; brightness, contrast and saturation are multiplied by 1 - colour … 1 + colour.

    Returns:
        ``[N, 3, s, s]`` float32, 0…255.
    """
    n_images = len(images)
    view = nn.functional.grid_sample(
        images,
        nn.functional.affine_grid(
            _crops(n_images, crop_scale_min, flips).to(images), list(images.shape), align_corners=False
        ),
        padding_mode="reflection",
        align_corners=False,
    )
    if colour:
        brightness, contrast, saturation = (1.0 + colour * (2.0 * torch.rand(3, n_images, 1, 1, 1) - 1.0)).to(
            images.device
        )
        view = view * brightness
        gray = (view * view.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        view = gray + saturation * (view - gray)
        mean = gray.mean(dim=(2, 3), keepdim=True)
        view = mean + contrast * (view - mean)
    return view.clamp(0.0, 255.0)


def _crops(n_images: int, crop_scale_min: float, flips: Flips) -> Tensor:
    """``[N, 2, 3]`` affine maps from a view's coordinates (-1…1) to the image's."""
    area = crop_scale_min + (1.0 - crop_scale_min) * torch.rand(n_images)
    # Uniform in the logarithm, so that wide and tall crops are equally likely.
    stretch = torch.exp(_LOG_RATIO * (torch.rand(n_images) - 0.5))
    # Clamped, because a stretched crop of nearly the whole area would reach beyond the image.
    width, height = (area.sqrt() * stretch).clamp_max(1.0), (area.sqrt() / stretch).clamp_max(1.0)
    place_x, place_y = 2.0 * torch.rand(2, n_images) - 1.0
    mirrored = torch.where(torch.rand(2, n_images) < 0.5, -1.0, 1.0)
    maps = torch.zeros(n_images, 2, 3)
    maps[:, 0, 0] = width * (mirrored[0] if flips != "none" else 1.0)
    maps[:, 1, 1] = height * (mirrored[1] if flips == "both" else 1.0)
    # The crop's centre may move by what the crop leaves free, so that it stays inside the image.
    maps[:, 0, 2] = place_x * (1.0 - width)
    maps[:, 1, 2] = place_y * (1.0 - height)
    return maps
