"""A backbone as an ONNX graph of its own, traced once and kept beside its features.

Tracing takes longer than computing the features of hundreds of images, and it is the same for every run,
update and export: none of them changes a backbone. So one graph computes the features for training and goes
into every exported file. That of a backbone in int8 (:mod:`features.graphs.quantised`) is written by
training, and is the only one that gives its features.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import warnings
from importlib import metadata
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper
from torch import Tensor, nn

from contracts.backbone_graph import OPSET, PATCHES, PIXELS, POOLED
from contracts.errors import ModelError
from contracts.files import atomic_writer, digest_of
from features.backbones import Backbone
from features.settings import BackboneSettings

# Raised when the graph of one and the same backbone changes by our own doing.
_VERSION = 2
_TRACERS = ("torch", "onnx", "onnxscript")
_INT8 = "graph-int8.onnx"
IMAGES, HALVES = "images", "halves"
"""Input and second output of :func:`from_bytes_to_halves`."""


class _BackboneAlone(nn.Module):
    """A backbone with names for its outputs."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        _, pooled, patches = self.backbone(pixels)
        return pooled, patches


def backbone_graph(backbone: Backbone, folder: Path) -> onnx.ModelProto:
    """From pixels to pooled and patch features; names and shapes as in :mod:`contracts.backbone_graph`.

    Args:
        backbone: in evaluation mode, on the CPU.
        folder: of this very backbone, in which its graph is kept.

    Raises:
        ModelError: the backbone cannot be traced, or its int8 graph is not there.
    """
    if backbone.settings.int8_graph is not None:
        return _int8_graph(backbone.settings, folder)
    path = folder / f"graph-{_tracers()}.onnx"
    kept = _read(path)
    if kept is not None:
        return kept
    graph = _traced(backbone)
    with atomic_writer(path) as handle:
        handle.write(graph.SerializeToString())
    return graph


def graph_path(backbone: Backbone, folder: Path) -> Path:
    """Where the graph of a backbone in float32 is kept, made now where it is not."""
    backbone_graph(backbone, folder)
    return folder / f"graph-{_tracers()}.onnx"


def keep_int8_graph(graph: bytes, folder: Path) -> None:
    """Put a quantised graph where :func:`backbone_graph` finds it."""
    with atomic_writer(folder / _INT8) as handle:
        handle.write(graph)


def digest_of_graph(graph: bytes) -> str:
    """What tells one quantised graph from another: ``int8_graph`` of the backbone's settings."""
    return hashlib.sha256(graph).hexdigest()[:16]


def has_int8_graph(settings: BackboneSettings, folder: Path) -> bool:
    """Whether the quantised graph of these settings lies in their folder."""
    path = folder / _INT8
    return path.is_file() and digest_of_graph(path.read_bytes()) == settings.int8_graph


def _int8_graph(settings: BackboneSettings, folder: Path) -> onnx.ModelProto:
    if not has_int8_graph(settings, folder):
        raise ModelError(
            f"{folder / _INT8}: the int8 graph {settings.int8_graph} of backbone '{settings.name}' is not "
            "there, or is another one. train-all makes it again, and fits what depends on it."
        )
    return onnx.load(str(folder / _INT8), load_external_data=False)


def from_bytes_to_halves(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a backbone's graph from ``[N, S, S, 3]`` uint8 to what the feature store keeps.

    Its outputs are the pooled features, and the patches in half precision, to which the backbone itself has
    rounded them.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    inner = model.graph
    [pixels] = inner.input
    batch, channels, height, width = pixels.type.tensor_type.shape.dim
    shape = [dim.dim_param or dim.dim_value for dim in (batch, height, width, channels)]
    nodes = [
        helper.make_node("Transpose", [IMAGES], ["pixels_uint8"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["pixels_uint8"], [PIXELS], to=TensorProto.FLOAT),
        *inner.node,
        helper.make_node("Cast", [PATCHES], [HALVES], to=TensorProto.FLOAT16),
    ]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    [patches] = [each for each in inner.output if each.name == PATCHES]
    halves = onnx.ValueInfoProto.FromString(patches.SerializeToString())
    halves.name, halves.type.tensor_type.elem_type = HALVES, TensorProto.FLOAT16
    del inner.node[:], inner.input[:]
    inner.node.extend(nodes)
    inner.input.append(helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, shape))
    inner.output.remove(patches)
    inner.output.append(halves)
    return model


def _traced(backbone: Backbone) -> onnx.ModelProto:
    size = backbone.settings.working_size
    # Two images: torch.export takes a size of 1 for a constant.
    sample = torch.zeros(2, 3, size, size)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            for name in ("torch.onnx", "onnxscript"):
                logging.getLogger(name).setLevel(logging.ERROR)
            program = torch.onnx.export(
                _BackboneAlone(_without_inplace(backbone)).eval(),
                (sample,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[PIXELS],
                output_names=[POOLED, PATCHES],
                dynamic_shapes=({0: torch.export.Dim("N")},),
                verbose=False,
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"backbone '{backbone.settings.name}': it cannot be traced to ONNX ({type(error).__name__}: "
            f"{reason}), so no ensemble with it could be exported. Choose another, such as resnet18."
        ) from error
    if program is None:
        raise ModelError(f"backbone '{backbone.settings.name}': the ONNX exporter gave no program.")
    model: onnx.ModelProto = program.model_proto
    return model


def _without_inplace(backbone: Backbone) -> Backbone:
    """A copy whose activations make new values: the same graph, in a little more than half the time.

    The tracer takes an operation in place apart into primitives, with the free batch size in each of them,
    only to put it together again.
    """
    plain = copy.deepcopy(backbone)
    for module in plain.modules():
        if getattr(module, "inplace", False) is True:
            setattr(module, "inplace", False)  # noqa: B010  # typed as a tensor or module
    return plain


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
