"""A backbone as a graph of its own, traced once and kept beside its features.

Tracing the backbone is most of an export, and it is the same at every export: neither an update nor another
stacker changes a backbone. So backbone and all the rest are traced apart, and joined. A kept graph gives the
same bytes as one that is traced again, since both go through here.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from torch import Tensor, nn

from contracts.files import atomic_writer, digest_of
from export.graph_parts import SCOPES
from export.tracing import OPSET, trace

PIXELS, POOLED, PATCHES = "pixels", "pooled", "patches"
"""Input and outputs of a backbone's graph."""

# Raised when the graph of one and the same backbone changes by our own doing.
_VERSION = 1
_TRACERS = ("torch", "onnx", "onnxscript")


class _BackboneAlone(nn.Module):
    """A backbone with names for its outputs."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        _, pooled, patches = self.backbone(pixels)
        return pooled, patches


def backbone_graph(backbone: nn.Module, image_size: int, folder: Path | None) -> onnx.ModelProto:
    """From ``[N, 3, S, S]`` float32 pixels to pooled and patch features.

    Args:
        backbone: in evaluation mode, on the CPU.
        image_size: S.
        folder: of this very backbone, in which its graph is kept; None to keep nothing.

    Raises:
        ModelError: it cannot be traced.
    """
    path = None if folder is None else folder / f"graph-{_tracers()}.onnx"
    kept = None if path is None else _read(path)
    if kept is not None:
        return kept
    # Two images: torch.export takes a size of 1 for a constant.
    pixels = torch.zeros(2, 3, image_size, image_size)
    axes = ({0: torch.export.Dim("N")},)
    graph = trace(_BackboneAlone(backbone), (pixels,), [PIXELS], [POOLED, PATCHES], axes)
    if path is not None:
        with atomic_writer(path) as handle:
            handle.write(graph.SerializeToString())
    return graph


def _read(path: Path) -> onnx.ModelProto | None:
    """A kept graph; None where there is none, or its file is damaged, so that it is made again."""
    try:
        graph = onnx.load(str(path), load_external_data=False)
    except (FileNotFoundError, DecodeError):
        return None
    return graph if [each.name for each in graph.graph.output] == [POOLED, PATCHES] else None


def _tracers() -> str:
    """Digest of all besides the backbone that its graph follows from."""
    return digest_of([_VERSION, OPSET, *(metadata.version(name) for name in _TRACERS)])


def name_scopes(graph: onnx.GraphProto, number: int) -> None:
    """Let the nodes of a backbone's graph say the backbone of which number they belong to, in place."""
    for node in graph.node:
        for entry in node.metadata_props:
            if entry.key == SCOPES:
                entry.value = entry.value.replace("'backbone'", f"'backbones.{number}'").replace(
                    "'backbone.", f"'backbones.{number}."
                )
