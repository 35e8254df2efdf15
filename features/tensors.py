"""The features of a batch of images; the only input of member modules."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class BackboneFeatures(NamedTuple):
    """Features of a batch of N images.

    Attributes:
        images: ``[N, 3, S, S]`` float32 RGB at the working size, 0…255, not normalised.
        pooled: ``[N, D]`` float32 spatial means of deep layers, for heads.
        patches: ``[N, C, g, g]`` float32 neighbourhood-pooled mid-level layers, for one-class members.
    """

    images: Tensor
    pooled: Tensor
    patches: Tensor
