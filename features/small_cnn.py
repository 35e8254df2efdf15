"""A small CNN of six convolutions for small images, trained from random weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SmallCnn(nn.Module):
    """Three stages of two 3x3 convolutions with batch normalisation, spatial mean, one linear layer.

    Each stage halves the side. It has the methods of timm's models, so it can be a backbone (with weights
    from a file) as well as a whole CNN.

    Args:
        n_classes: outputs of the linear layer.
        width: channels of the first stage; the next have twice and four times as many.
        dropout: before the linear layer, while training.
    """

    def __init__(self, n_classes: int = 1000, width: int = 32, dropout: float = 0.0) -> None:
        super().__init__()
        stages = []
        before = 3
        for channels in (width, 2 * width, 4 * width):
            stages.append(
                nn.Sequential(
                    *_convolution(before, channels), *_convolution(channels, channels), nn.MaxPool2d(2)
                )
            )
            before = channels
        self.stages = nn.ModuleList(stages)
        # timm's name, by which other code finds the width.
        self.num_features = before
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(before, n_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer with a new one."""
        self.fc = nn.Linear(self.num_features, num_classes)

    def get_classifier(self) -> nn.Linear:
        """The last layer."""
        return self.fc

    def forward_features(self, images: Tensor) -> Tensor:
        """``[N, C, h, w]`` of the last stage."""
        for stage in self.stages:
            images = stage(images)
        return images

    def forward_intermediates(
        self, images: Tensor, indices: Sequence[int] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The last stage's map, and the maps of the stages asked for (all when None)."""
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return images, maps if indices is None else [maps[i] for i in indices]

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits ``[N, K]``, or ``[N, C]`` before the linear layer."""
        pooled = torch.mean(maps, dim=(2, 3))
        if pre_logits:
            return pooled
        logits: Tensor = self.fc(self.dropout(pooled))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[N, K]`` of ``[N, 3, s, s]`` normalised images."""
        return self.forward_head(self.forward_features(images))


def _convolution(before: int, channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(before, channels, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
