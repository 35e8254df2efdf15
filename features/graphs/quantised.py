"""Convolutions of a backbone in int8: static quantisation on training images.

Only a backbone's convolutions and the clipping behind them are quantised: they are nearly all of the
arithmetic. Preprocessing, kNN, heads, stacker and calibrator stay float32, because a distance or a
probability needs more than 8 bits. So does the first convolution of a backbone: it reads the image itself.

Weights are symmetric, with one scale per output channel, and 7 bits wide: processors without VNNI add two
products of 8 bits in 16 bits, which would overflow with 8-bit weights.

Rounding a kernel of few taps changes its sum, and with it the mean of what the next layer is given: on
EfficientNet-Lite0 that was nearly all of the error. So each convolution's bias is corrected by what rounding
its weights changes on average (Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and
Bias Correction", https://arxiv.org/abs/1906.04721, section 4.2; means are measured on the images that set the
ranges).

Average pools with padding read float32. OpenVINO moves the dequantisation (x - zero point) * scale behind
a pool, which then pads with the integer 0 where it should pad with the zero point: along the edges of the
patch grid features were wrong by up to 22 (on elpv), and PatchCore's nearest neighbours with them.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from contracts.errors import ModelError

_BATCH = 8
# The quantiser's own for symmetric signed weights of a reduced range.
_LARGEST_WEIGHT = 64
_WARNINGS, _FATAL_ONLY = 2, 4


def quantised_nodes(backbone: Iterable[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Convolutions of one backbone but its first, and clippings that follow a quantised one.

    Args:
        backbone: its nodes, in the order in which they are computed.
    """
    chosen: list[onnx.NodeProto] = []
    made_in_int8: set[str] = set()
    has_started = False
    for node in backbone:
        if node.op_type == "Conv":
            if has_started:
                chosen.append(node)
                made_in_int8.add(node.output[0])
            has_started = True
        elif node.op_type in ("Clip", "Relu") and node.input[0] in made_in_int8:
            chosen.append(node)
    return chosen


def quantise(
    source: Path,
    target: Path,
    nodes: Sequence[onnx.NodeProto],
    given: Mapping[str, npt.NDArray[Any]],
) -> int:
    """Write a graph in which some nodes compute in int8.

    Args:
        source: the float32 graph.
        target: where the other goes.
        nodes: of :func:`quantised_nodes`.
        given: input → ``[n, ...]`` what it is shown, n >= 8: activations set the ranges (minimum to maximum).

    Returns:
        How many convolutions were quantised.

    Raises:
        ModelError: the quantiser fails on it.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    level = logging.root.level
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)  # it opens sessions of its own, which warn
    try:
        logging.root.setLevel(logging.ERROR)  # it advises on preprocessing through the root logger
        with tempfile.TemporaryDirectory() as folder:
            # The quantiser optimises a copy first; what it writes beside the source would stay there.
            copy = Path(folder) / "source.onnx"
            copy.write_bytes(_with_corrected_biases(source, nodes, given).SerializeToString())
            quantize_static(
                str(copy),
                str(target),
                _Batches(given),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Clip", "Relu"],
                nodes_to_quantize=[node.name for node in nodes],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
        _let_padded_pools_read_floats(target)
    except Exception as error:  # the quantiser raises many types
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{source}: int8 quantisation failed: {type(error).__name__}: {reason}") from error
    finally:
        logging.root.setLevel(level)
        onnxruntime.set_default_logger_severity(_WARNINGS)
    return sum(node.op_type == "Conv" for node in nodes)


def _with_corrected_biases(
    source: Path, nodes: Sequence[onnx.NodeProto], given: Mapping[str, npt.NDArray[Any]]
) -> onnx.ModelProto:
    """The graph with weights on the quantiser's grid, and biases that make up for that on average.

    What lies on the grid the quantiser leaves as it is. Padding is left out of account: along the borders of
    a picture the means are others.
    """
    document = onnx.load(str(source))
    wanted = {node.name for node in nodes}
    constants = {each.name: each for each in document.graph.initializer}
    convolutions = [
        node
        for node in document.graph.node
        if node.op_type == "Conv"
        and node.name in wanted
        and node.input[1] in constants
        and len(constants[node.input[1]].dims) == 4  # two-dimensional
    ]
    means = _channel_means(document, [node.input[0] for node in convolutions], given)
    replaced: set[str] = set()
    for node in convolutions:
        weights = onnx.numpy_helper.to_array(constants[node.input[1]])
        rounded = _on_the_grid(weights)
        settings = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        groups = int(settings.get("group", 1))
        # Each output channel sees the input channels of its own group.
        of_output = np.repeat(means[node.input[0]].reshape(groups, -1), len(weights) // groups, axis=0)
        shift = ((rounded - weights).sum(axis=(2, 3)) * of_output).sum(axis=1)
        has_bias = len(node.input) > 2 and node.input[2]
        bias = onnx.numpy_helper.to_array(constants[node.input[2]]) if has_bias else np.zeros(len(weights))
        # Under names of their own: other nodes may read the same weights.
        names = [f"{node.name}_on_grid", f"{node.name}_corrected"]
        for name, values in zip(names, (rounded, bias - shift), strict=True):
            document.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
        replaced.update(node.input[1:])
        del node.input[1:]
        node.input.extend(names)
    read = {name for node in document.graph.node for name in node.input}
    for place in reversed(range(len(document.graph.initializer))):
        # Of what was replaced alone: a default of an input is read by nobody either.
        if document.graph.initializer[place].name in replaced - read:
            del document.graph.initializer[place]
    return document


def _on_the_grid(weights: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """``[O, I, h, w]`` weights rounded to 7 bits by output channel, as the quantiser does."""
    wide = weights.astype(np.float64)
    largest = np.abs(wide).max(axis=(1, 2, 3), keepdims=True)
    step = np.where(largest > 0.0, largest, 1.0) / _LARGEST_WEIGHT
    on_grid: npt.NDArray[np.float64] = np.rint(wide / step) * step
    return on_grid


def _channel_means(
    document: onnx.ModelProto, values: Sequence[str], given: Mapping[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[np.float64]]:
    """Value ``[N, C, h, w]`` → ``[C]`` its mean over images and cells."""
    probe = onnx.ModelProto()
    probe.CopyFrom(document)
    graph = probe.graph
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 2, 3]), "axes_of_means"))
    del graph.output[:]
    name_of = {value: f"mean_of_input_{number}" for number, value in enumerate(dict.fromkeys(values))}
    for value, name in name_of.items():
        graph.node.append(onnx.helper.make_node("ReduceMean", [value, "axes_of_means"], [name], keepdims=0))
        graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    batches = _Batches(given)
    totals = {value: np.zeros(()) for value in name_of}
    count = 0
    while (batch := batches.get_next()) is not None:
        of_batch = len(next(iter(batch.values())))
        count += of_batch
        for value, mean in zip(name_of, session.run(list(name_of.values()), batch), strict=True):
            totals[value] = totals[value] + of_batch * mean.astype(np.float64)
    return {value: total / count for value, total in totals.items()}


def _let_padded_pools_read_floats(path: Path) -> None:
    """Connect padded average pools to the float32 tensor in front of a quantisation, in the file itself.

    Only where the zero point is not 0: behind a ReLU the integer 0 is 0.0, so the padding is right, and the
    ReLU itself is gone (the range of the quantisation clips), so the tensor in front is another one.
    """
    document = onnx.load(str(path))
    made_by = {name: node for node in document.graph.node for name in node.output}
    constants = {each.name: each for each in document.graph.initializer}
    for node in document.graph.node:
        if node.op_type != "AveragePool" or not _pads_with_zeros(node):
            continue
        dequantise = made_by.get(node.input[0])
        if dequantise is None or dequantise.op_type != "DequantizeLinear":
            continue
        quantise = made_by[dequantise.input[0]]
        if onnx.numpy_helper.to_array(constants[quantise.input[2]]).any():
            node.input[0] = quantise.input[0]
    path.write_bytes(document.SerializeToString())


def _pads_with_zeros(pool: onnx.NodeProto) -> bool:
    """Whether padding counts in the averages of a pool."""
    settings = {each.name: onnx.helper.get_attribute_value(each) for each in pool.attribute}
    return bool(settings.get("count_include_pad", 0)) and any(settings.get("pads", ()))


class _Batches:
    """What inputs are shown, in the quantiser's own form."""

    def __init__(self, given: Mapping[str, npt.NDArray[Any]]) -> None:
        self._given = given
        self._waiting = self._batches()

    def _batches(self) -> Iterator[dict[str, npt.NDArray[Any]]]:
        count = len(next(iter(self._given.values())))
        for start in range(0, count, _BATCH):
            yield {
                name: np.ascontiguousarray(values[start : start + _BATCH])
                for name, values in self._given.items()
            }

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """The next batch, or None."""
        return next(self._waiting, None)

    def rewind(self) -> None:
        """Start again."""
        self._waiting = self._batches()
