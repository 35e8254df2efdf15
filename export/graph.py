"""One module from uint8 images to probabilities, decisions, member scores and a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class GraphOutputs(NamedTuple):
    """Outputs of the exported file, in order; N images.

    Attributes:
        probability: ``[N]`` probability of the minority (``[N, K]`` for K > 2 classes).
        decision: ``[N]`` int64 class index, minority last.
        member_scores: ``[N, M]`` float32, the stacker's inputs.
        anomaly_map: ``[N, h, w]`` float32 distances on the patch grid; absent where no member has a map.
    """

    probability: Tensor
    decision: Tensor
    member_scores: Tensor
    anomaly_map: Tensor | None


@dataclass(frozen=True)
class GraphMember:
    """A fitted member in the graph.

    Attributes:
        name: as in the score table.
        trunk: key of the trunk whose features it reads.
        module: ``forward(features) -> (scores [N, C], map | None)``.
    """

    name: str
    trunk: str
    module: nn.Module


class MeanOfMembers(nn.Module):
    """One member fitted several times, which vote: the mean of their scores, and of their maps.

    Args:
        modules: fits of the same member, as in :class:`GraphMember`; all have a map or none has.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.modules_of_repeat = nn.ModuleList(modules)

    def forward(self, features: object) -> tuple[Tensor, Tensor | None]:
        """Scores ``[N, C]`` and map ``[N, g, g]`` or None, of a trunk's features."""
        scores, maps = zip(*(module(features) for module in self.modules_of_repeat), strict=True)
        mean_map = None if maps[0] is None else torch.stack(maps).mean(dim=0)
        return torch.stack(scores).mean(dim=0), mean_map


class FusedGraph(nn.Module):
    """Everything between an image and its probability; each trunk runs once, whoever reads it.

    Args:
        trunks: key → trunk module, ``forward(images [N, 3, S, S] 0…255) -> TrunkFeatures``.
        members: in the order of the score columns.
        ensemble: ``forward(scores, prior, threshold) -> (probability, decision)``.
        image_size: working size S in pixels.
    """

    def __init__(
        self,
        trunks: dict[str, nn.Module],
        members: Sequence[GraphMember],
        ensemble: nn.Module,
        image_size: int,
    ) -> None:
        super().__init__()
        self.trunk_keys = tuple(trunks)
        self.trunks = nn.ModuleList(trunks.values())
        self.members = nn.ModuleList(member.module for member in members)
        self.trunk_of_member = tuple(self.trunk_keys.index(member.trunk) for member in members)
        self.ensemble = ensemble
        self.image_size = image_size

    def member_scores(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores ``[N, M]`` and the first map ``[N, h, w]`` of uint8 images ``[N, H, W, 3]``."""
        pixels = images.permute(0, 3, 1, 2).float()
        # Exact where the image already has the working size; antialiased as in training where not.
        resized = nn.functional.interpolate(
            pixels, size=(self.image_size, self.image_size), mode="bilinear", antialias=True
        )
        features = [trunk(resized) for trunk in self.trunks]
        scores: list[Tensor] = []
        anomaly_map: Tensor | None = None
        for module, trunk in zip(self.members, self.trunk_of_member, strict=True):
            score, score_map = module(features[trunk])
            scores.append(score)
            if anomaly_map is None:
                anomaly_map = score_map
        return torch.cat(scores, dim=1), anomaly_map

    def forward(self, images: Tensor, prior: Tensor, threshold: Tensor) -> tuple[Tensor, ...]:
        """Score images.

        Args:
            images: ``[N, H, W, 3]`` uint8 RGB.
            prior: ``[]`` float32 share of the minority where the model works (``[K]`` for K > 2).
            threshold: ``[]`` float32; the decision is the minority from this probability on (``[K]`` for
                K > 2; the decision is the class with the largest probability / threshold).
        """
        scores, anomaly_map = self.member_scores(images)
        probability, decision = self.ensemble(scores, prior, threshold)
        outputs = GraphOutputs(probability, decision, scores, anomaly_map)
        return tuple(output for output in outputs if output is not None)
