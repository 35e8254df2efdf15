"""A second file whose backbones convolve in int8: static quantisation on training images.

Only the backbones' convolutions, with the clipping behind them, are touched: they are nearly all of the
arithmetic. Preprocessing, kNN, heads, stacker and calibrator stay float32, because a distance or a
probability needs more than 8 bits. The first convolution of a backbone stays, too: it reads the image
itself. What is kept is decided by the gate, not here.

Weights are symmetric, one scale an output channel, and 7 bits wide: processors without VNNI add two
products of 8 bits up in 16, which overflows with 8-bit weights.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from contracts.errors import ModelError
from contracts.rows import ImageArray
from export.graph_parts import part_of

_BATCH = 8
_WARNINGS, _FATAL_ONLY = 2, 4


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
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    nodes = _backbone_nodes(source)
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    if not convolutions:
        raise ModelError(
            f"{source}: no backbone in it has a convolution, so there is nothing to compute in int8."
        )
    level = logging.root.level
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)  # it opens sessions of its own, which warn
    try:
        logging.root.setLevel(logging.ERROR)  # it advises on preprocessing through the root logger
        with tempfile.TemporaryDirectory() as folder:
            # The quantiser optimises a copy first; what it writes beside the source would stay there.
            copy = Path(folder) / "source.onnx"
            copy.write_bytes(source.read_bytes())
            quantize_static(
                str(copy),
                str(target),
                _Batches(images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Clip", "Relu"],
                nodes_to_quantize=[node.name for node in nodes],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
    except Exception as error:  # the quantiser raises many types
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{source}: int8 quantisation failed: {type(error).__name__}: {reason}") from error
    finally:
        logging.root.setLevel(level)
        onnxruntime.set_default_logger_severity(_WARNINGS)
    return len(convolutions)


def _backbone_nodes(source: Path) -> list[onnx.NodeProto]:
    """Convolutions of the backbones but the first of each, and clippings that follow a quantised one."""
    document = onnx.load(str(source))
    chosen: list[onnx.NodeProto] = []
    started: set[int] = set()
    made_in_int8: set[str] = set()
    for node in document.graph.node:
        room, number = part_of(node)
        if room != "backbones":
            continue
        if node.op_type == "Conv":
            if number in started:
                chosen.append(node)
                made_in_int8.add(node.output[0])
            started.add(number)
        elif node.op_type in ("Clip", "Relu") and node.input[0] in made_in_int8:
            chosen.append(node)
    return chosen


class _Batches:
    """Calibration images in the quantiser's own form."""

    def __init__(self, images: ImageArray) -> None:
        self._images = images
        self._waiting = self._batches()

    def _batches(self) -> Iterator[dict[str, npt.NDArray[Any]]]:
        for start in range(0, len(self._images), _BATCH):
            yield {"images": np.ascontiguousarray(self._images[start : start + _BATCH])}

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """The next batch, or None."""
        return next(self._waiting, None)

    def rewind(self) -> None:
        """Start again."""
        self._waiting = self._batches()
