"""Anomalib's networks as modules of the exported graph: pixels in, a score and a map out."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from features.tensors import BackboneFeatures
from oneclass.from_anomalib.build import Normalisation
from oneclass.patchcore.module import PatchCoreModule
from oneclass.patchcore.settings import PatchCoreSettings


class Preparation(nn.Module):
    """Resize (antialiased, as everywhere here) and normalise; the same in training, scoring and the graph.

    Anomalib's own resize is antialiased in training but not in its exported files.

    Args:
        image_size: side in pixels of the network's input.
        working_size: side of the incoming images; if it is the same, nothing is resized.
        normalisation: mean and standard deviation per channel, in 0…1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, image_size: int, working_size: int, normalisation: Normalisation) -> None:
        super().__init__()
        self.image_size, self.working_size = image_size, working_size
        mean, std = normalisation
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255.0)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255.0)

    def forward(self, images: Tensor) -> Tensor:
        """``[N, 3, s, s]`` from ``[N, 3, S, S]`` pixels 0…255."""
        if self.image_size != self.working_size:
            side = (self.image_size, self.image_size)
            images = nn.functional.interpolate(images, size=side, mode="bilinear", antialias=True)
        # Some networks reshape with ``view``, which needs this memory layout; ours is channels-last.
        return ((images - self.mean) / self.std).contiguous()


class AnomalibModule(nn.Module):
    """Our preparation of the images, followed by a trained network.

    Args:
        preparation: of the pixels.
        network: ``lightning.model`` of a trained model, in evaluation mode.
    """

    def __init__(self, preparation: Preparation, network: nn.Module) -> None:
        super().__init__()
        self.preparation = preparation
        self.network = network

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, Tensor | None]:
        """Return scores ``[N, 1]`` and the network's map ``[N, h, w]``, or None if it has none."""
        return score_and_map(self.network(self.preparation(features.images)))


def score_and_map(output: Any) -> tuple[Tensor, Tensor | None]:
    """Scores ``[N, 1]`` and map ``[N, h, w]`` or None, from the output of one of anomalib's networks.

    If there is only a map, the score is its largest value, as in anomalib.
    """
    if isinstance(output, Tensor):
        return output.float().reshape(output.shape[0], -1)[:, :1], None
    anomaly_map, score = output.anomaly_map, output.pred_score
    if anomaly_map is not None and anomaly_map.ndim == 4:
        anomaly_map = anomaly_map[:, 0]
    if score is None:
        score = anomaly_map.amax(dim=(1, 2))
    return score.float().reshape(score.shape[0], 1), None if anomaly_map is None else anomaly_map.float()


class PatchcoreScorer(nn.Module):
    """Anomalib's PatchCore without its loop over chunks of patches, which tracing would fix at a batch size.

    Features are anomalib's; the search in its bank is :class:`oneclass.patchcore.module.PatchCoreModule`. The
    score is the same number. The map holds the distances of the patches, neither upsampled nor blurred.

    Args:
        preparation: of the pixels.
        network: anomalib's ``PatchcoreModel`` with its bank filled.
    """

    def __init__(self, preparation: Preparation, network: Any) -> None:
        super().__init__()
        self.preparation = preparation
        self.network = network
        bank = network.memory_bank.float()
        mean = bank.mean(dim=0)
        # Our module subtracts a mean; taken from the bank as well, it changes no distance and reduces
        # rounding.
        self.search = PatchCoreModule(search_settings(network.num_neighbors), mean, None, bank - mean)

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, Tensor]:
        """Return scores ``[N, 1]`` and the patch map ``[N, g, g]``."""
        pixels = self.preparation(features.images).to(self.network.memory_bank.dtype)
        layers = self.network.feature_extractor(pixels)
        pooled = {name: self.network.feature_pooler(layer) for name, layer in layers.items()}
        patches = self.network.generate_embedding(pooled).float()
        nothing = torch.empty(0)
        found: tuple[Tensor, Tensor] = self.search(
            BackboneFeatures(images=nothing, pooled=nothing, patches=patches)
        )
        return found


def search_settings(num_neighbors: int) -> PatchCoreSettings:
    """Our settings that give anomalib's image score with that many neighbours."""
    if num_neighbors == 1:
        return PatchCoreSettings(image_score="top_mean", top_patches=1)
    return PatchCoreSettings(image_score="reweighted", neighbours=num_neighbors)


def _rows_of(value: Any) -> int:
    """``len`` that keeps the batch size free while tracing; the built-in ``len`` of a tensor fixes it."""
    return value.shape[0] if isinstance(value, Tensor) else len(value)


def scorer(preparation: Preparation, network: Any) -> nn.Module:
    """The module of a trained network; in our own form if anomalib's would fix the batch size."""
    if type(network).__name__ == "PatchcoreModel":
        return PatchcoreScorer(preparation, network).eval()
    if type(network).__name__ in {"DFMModel", "FREModel"}:
        # These two fix the batch size only by calling ``len`` on a tensor, so their file gets another one.
        vars(sys.modules[type(network).__module__])["len"] = _rows_of
    return AnomalibModule(preparation, network).eval()
