"""A second file whose backbones convolve in int8, made of the float32 file after training.

Whether the file is kept is decided by the accuracy gate, not here. Members that are to be fitted on what int8
gives are trained with ``backbone.precision`` instead (:mod:`workflow.training.quantising`).
"""

from __future__ import annotations

from pathlib import Path

import onnx

from contracts.errors import ModelError
from contracts.rows import ImageArray
from export.graph_parts import part_of
from features.graphs.quantised import quantise, quantised_nodes


def quantise_backbones(source: Path, target: Path, images: ImageArray) -> int:
    """Write an int8 variant of an exported file.

    Args:
        source: the float32 file.
        target: where the variant goes.
        images: ``[n, S, S, 3]`` uint8 training images at working size, n >= 8: their activations set the
            ranges (minimum to maximum).

    Returns:
        How many convolutions were quantised.

    Raises:
        ModelError: the file has no backbone convolutions, or the quantiser fails on it.
    """
    of_backbone: dict[int | None, list[onnx.NodeProto]] = {}
    for node in onnx.load(str(source)).graph.node:
        room, number = part_of(node)
        if room == "backbones":
            of_backbone.setdefault(number, []).append(node)
    nodes = [node for each in of_backbone.values() for node in quantised_nodes(each)]
    if not nodes:
        raise ModelError(
            f"{source}: no backbone in it has a convolution, so there is nothing to compute in int8."
        )
    return quantise(source, target, nodes, {"images": images})
