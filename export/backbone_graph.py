"""A backbone's graph in a file: traced apart from all around it, so that one that is kept can be taken."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from contracts.backbone_graph import PATCHES, PIXELS, POOLED
from export.graph_parts import SCOPES
from export.tracing import trace


class _BackboneAlone(nn.Module):
    """A backbone with names for its outputs."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        _, pooled, patches = self.backbone(pixels)
        return pooled, patches


def backbone_graph(backbone: nn.Module, image_size: int) -> onnx.ModelProto:
    """From ``[N, 3, S, S]`` float32 pixels to pooled and patch features.

    Args:
        backbone: in evaluation mode, on the CPU.
        image_size: S.

    Raises:
        ModelError: it cannot be traced.
    """
    # Two images: torch.export takes a size of 1 for a constant.
    pixels = torch.zeros(2, 3, image_size, image_size)
    axes = ({0: torch.export.Dim("N")},)
    return trace(_BackboneAlone(backbone), (pixels,), [PIXELS], [POOLED, PATCHES], axes)


def name_scopes(graph: onnx.GraphProto, number: int) -> None:
    """Let the nodes of a backbone's graph say the backbone of which number they belong to, in place."""
    for node in graph.node:
        for entry in node.metadata_props:
            if entry.key == SCOPES:
                entry.value = entry.value.replace("'backbone'", f"'backbones.{number}'").replace(
                    "'backbone.", f"'backbones.{number}."
                )
