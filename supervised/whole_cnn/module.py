"""The network of a whole CNN member: from working pixels to score columns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from features.settings import BackboneSettings
from features.tensors import BackboneFeatures
from features.weights import build_classifier
from supervised.labels import score_columns
from supervised.settings import CnnSettings
from supervised.whole_cnn.pixels import resized

# ITU-R BT.601, as in Pillow's conversion to grey.
_LUMA = (0.299, 0.587, 0.114)


class TunedModule(nn.Module):
    """Resize to the CNN's own size, normalise, classify.

    Args:
        settings: image size and colours.
        backbone: which model, with which weights to start from.
        n_classes: K.
        seed: of weights that are random.
    """

    mean: Tensor
    std: Tensor
    luma: Tensor
    correction: Tensor

    def __init__(
        self, settings: CnnSettings, backbone: BackboneSettings, n_classes: int, seed: int = 0
    ) -> None:
        super().__init__()
        self.image_size = settings.image_size
        self.gray = settings.gray
        self.n_classes = n_classes
        classifier, mean, std = build_classifier(backbone.name, backbone.weights_source, n_classes, seed)
        # Convolutions are faster on channels-last tensors. A restored module needs the layout of the trained
        # one, or its scores would differ in the last digits.
        self.classifier: Any = classifier.to(memory_format=torch.channels_last)
        # Times 255, because pixels arrive as 0…255 and the published statistics are for 0…1.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255.0)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255.0)
        self.register_buffer("luma", torch.tensor(_LUMA).view(1, 3, 1, 1))
        # Brings the logits back to the training rows' class shares; see supervised.objective.PriorLedger.
        self.register_buffer("correction", torch.zeros(n_classes))

    def resize(self, images: Tensor) -> Tensor:
        """``[N, 3, s, s]`` from ``[N, 3, S, S]``, antialiased."""
        return resized(images, self.image_size)

    def normalise(self, pixels: Tensor) -> Tensor:
        """The network's input for pixels 0…255; with ``gray``, three equal grey channels."""
        if self.gray:
            pixels = (pixels * self.luma).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        return (pixels - self.mean) / self.std

    def logits(self, pixels: Tensor) -> Tensor:
        """``[N, K]`` from pixels 0…255 at the CNN's own size."""
        logits: Tensor = self.classifier(self.normalise(pixels))
        return logits

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, None]:
        """Return score columns; there is no map."""
        return score_columns(self.logits(self.resize(features.images)) + self.correction), None
