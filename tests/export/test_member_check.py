"""A member that keeps a graph from being exported is found, and told from those that do not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.graph import GraphMember
from export.member_check import reasons_not_to_export
from features.backbones import NoBackbone
from features.tensors import BackboneFeatures


class Brightness(nn.Module):
    def forward(self, features: BackboneFeatures) -> tuple[Tensor, None]:
        return features.images.mean(dim=(1, 2, 3))[:, None], None


class OneByOne(nn.Module):
    """Loops over the images of a batch, which tracing writes out for the batch that it sees."""

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, None]:
        scores = [features.images[i].mean() for i in range(features.images.shape[0])]
        return torch.stack(scores)[:, None], None


class PairsOnly(nn.Module):
    """Fails at any other batch."""

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, None]:
        return features.images.reshape(2, -1).mean(dim=1, keepdim=True)[:, :1] * torch.ones(2, 1), None


def test_only_the_failing_are_named():
    members = [GraphMember(m.__class__.__name__, "", m) for m in (Brightness(), OneByOne(), PairsOnly())]
    reasons = reasons_not_to_export({"": NoBackbone()}, members, 16)
    assert set(reasons) == {"OneByOne", "PairsOnly"}
    assert all(reasons.values())
