"""What is inside an exported file: its parts, their arithmetic and their time, and what it promises.

Every node remembers the module it was traced from, so arithmetic and time can be laid at the door of the
backbone, the member or the stacker that asked for them, also after the runtime has fused nodes.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from contracts.errors import ModelError
from export.scoring.model import MAP_PREFIX, TOGETHER, ScoringModel, load_model

SCOPES = "pkg.torch.onnx.name_scopes"
"""Key under which every node says which modules it was traced from, the outermost first."""

_SINGLE = ("watched", "together", "ensemble")
"""Modules of the graph that are there once, in the order in which they are shown."""

_BATCH = 8
_RUNS = 3
_FATAL_ONLY = 4


@dataclass(frozen=True)
class GraphPart:
    """A backbone, a member, or what lies before and behind them.

    Attributes:
        name: ``input`` (casts and resize), ``backbone NAME``, the member's name, ``watched features``,
            ``maps together``, or ``ensemble``.
        nodes: how many nodes of the file belong to it.
        weight_bytes: of its weights; one that several parts read counts for the first.
        gflop: 10^9 floating-point operations per image in convolutions and matrix products, a
            multiplication and an addition counted as two.
        ms: milliseconds per image on one thread of this machine.
    """

    name: str
    nodes: int
    weight_bytes: int
    gflop: float
    ms: float


def inspect_graph(model: ScoringModel) -> tuple[GraphPart, ...]:
    """Take an exported file apart.

    Args:
        model: as loaded for scoring.

    Returns:
        The parts in the order in which an image passes them.

    Raises:
        ModelError: the graph does not say which module its nodes came from.
    """
    # The file as exported, not as the runtime has optimised it: names of parts live in the nodes' metadata.
    document = onnx.load(str(model.path))
    part_of_node = {node.name: part_of(node) for node in document.graph.node}
    if not {key for key, _ in part_of_node.values()} & {"members", "backbones"}:
        raise ModelError(
            f"{model.path}: its nodes do not say which member they belong to, so it cannot be taken apart. "
            "Export it again with this version."
        )
    flop = _flop_of_node(document, model.decode.size)
    milliseconds = _ms_of_part(model, document, part_of_node)
    weights = {tensor.name: _tensor_bytes(tensor) for tensor in document.graph.initializer}
    nodes: dict[tuple[str, int], int] = defaultdict(int)
    gflop: dict[tuple[str, int], float] = defaultdict(float)
    weight_bytes: dict[tuple[str, int], int] = defaultdict(int)
    for node in document.graph.node:
        part = part_of_node[node.name]
        nodes[part] += 1
        gflop[part] += flop.get(node.name, 0.0) / 1e9
        # pop: a weight that several parts share counts once, for the part that reads it first.
        weight_bytes[part] += sum(weights.pop(name, 0) for name in node.input)
    order = ("input", "backbones", "members", *_SINGLE)
    return tuple(
        GraphPart(
            _shown(part, model), nodes[part], weight_bytes[part], gflop[part], milliseconds.get(part, 0.0)
        )
        for part in sorted(nodes, key=lambda part: (order.index(part[0]), part[1]))
    )


def part_of(node: onnx.NodeProto) -> tuple[str, int]:
    """``("backbones", 0)``, ``("members", 3)``, ``("ensemble", 0)`` and so on.

    What joins the maps is ``("together", 0)``, what the watch reads ``("watched", 0)``; everything else is
    ``("input", 0)``.
    """
    entries = {entry.key: entry.value for entry in node.metadata_props}
    scopes = entries.get(SCOPES, "").strip("[]").replace("'", "").split(", ")
    for scope in scopes:
        room, _, rest = scope.partition(".")
        if room in ("backbones", "members"):
            number = rest.partition(".")[0]
            return (room, int(number) if number.isdigit() else 0)
        if room in _SINGLE:
            return (room, 0)
    return ("input", 0)


def members_of_output(path: Path, output: str) -> tuple[str, ...]:
    """The members that an output of an exported file comes from, such as those whose maps it holds, in order.

    Args:
        path: of an exported file.
        output: its name.

    Raises:
        ModelError: the file has no such output, or no member is behind it.
    """
    document = onnx.load(str(path), load_external_data=False)
    model = load_model(path, at_first_run=True)
    maker_of = {name: node for node in document.graph.node for name in node.output}
    waiting, seen, found = [output], {output}, set()
    while waiting:
        node = maker_of.get(waiting.pop(0))
        if node is None:
            continue
        part = part_of(node)
        if part[0] == "members":
            # What lies before a member is a backbone's.
            found.add(part)
            continue
        waiting += [name for name in node.input if name not in seen]
        seen.update(node.input)
    if found:
        return tuple(_shown(part, model) for part in sorted(found))
    raise ModelError(f"{path}: none of its members gives an output '{output}'. Export it again.")


def _shown(part: tuple[str, int], model: ScoringModel) -> str:
    room, number = part
    if room == "members":
        # For K > 2 classes every member has K columns, named member:class.
        # Columns of one member follow each other, so the first occurrences are the members in order.
        names = list(dict.fromkeys(name.partition(":")[0] for name in model.members))
        if len(model.classes) == 2:
            names = list(model.members)
        return names[number] if number < len(names) else f"member {number}"
    if room == "backbones":
        backbones: list[str] = model.document.get("backbones") or []
        return f"backbone {backbones[number]}" if number < len(backbones) else f"backbone {number}"
    return {"together": "maps together", "watched": "watched features"}.get(room, room)


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    itemsize: int = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    return itemsize * int(math.prod(tensor.dims))


def _flop_of_node(document: onnx.ModelProto, side: int) -> dict[str, float]:
    """Operations for one image of the working size, of nodes that convolve or multiply matrices."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(document)
    # The sizes of a single image; with free axes most shapes cannot be inferred.
    for dim, value in zip(fixed.graph.input[0].type.tensor_type.shape.dim, (1, side, side, 3), strict=True):
        dim.dim_value = value
    # What the exporter noted with free sizes would stand in the way of what follows from fixed ones.
    del fixed.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    values = [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.graph.initializer}
    found = {}
    for node in inferred.graph.node:
        size = float(math.prod(shapes.get(node.output[0], [0])))
        if node.op_type == "Conv":
            # The weight's shape is [out, in / groups, kh, kw], so everything but its first axis is multiplied
            # per output value. Grouped and depthwise convolutions are thereby counted right.
            found[node.name] = 2.0 * size * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            found[node.name] = 2.0 * size * shapes.get(node.input[0], [0])[-1]
    return found


def _ms_of_part(
    model: ScoringModel, document: onnx.ModelProto, part_of_node: dict[str, tuple[str, int]]
) -> dict[tuple[str, int], float]:
    """Milliseconds per image of every part, from ONNX Runtime's own profile on one thread."""
    part_of_output = {name: part_of_node[node.name] for node in document.graph.node for name in node.output}
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = 1
    side = model.decode.size
    # Random pixels: the time of dense arithmetic does not depend on them.
    images = np.random.default_rng(0).integers(0, 256, (_BATCH, side, side, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
        for _ in range(_RUNS + 1):
            session.run(None, {"images": images})
        events = json.loads(Path(session.end_profiling()).read_text())
    runs_of: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            runs_of[event["name"].removesuffix("_kernel_time")].append(float(event["dur"]))
    totals: dict[tuple[str, int], float] = defaultdict(float)
    for name, microseconds in runs_of.items():
        # The first run warms caches up. Times of a node that runs several times per call are added up.
        kept = microseconds[len(microseconds) // (_RUNS + 1) :]
        part = _part_of_fused(name, part_of_node, part_of_output)
        totals[part] += sum(kept) / _RUNS / _BATCH / 1e3
    return totals


def _part_of_fused(
    name: str,
    part_of_node: dict[str, tuple[str, int]],
    part_of_output: dict[str, tuple[str, int]],
) -> tuple[str, int]:
    """A fused node is named after a node or after the value it makes; a copy between layouts after none."""
    for known in (name, name.partition("/")[0], name.removesuffix("_nchwc")):
        if known in part_of_node:
            return part_of_node[known]
        if known in part_of_output:
            return part_of_output[known]
    return ("input", 0)


def maps_of_file(model: ScoringModel) -> dict[str, tuple[str, ...]]:
    """Output that is a map → the members that it comes from."""
    outputs = [*([TOGETHER] if model.has_map else []), *(MAP_PREFIX + name for name in model.maps_of)]
    return {output: members_of_output(model.path, output) for output in outputs}


def graph_document(model: ScoringModel, parts: tuple[GraphPart, ...]) -> dict[str, Any]:
    """Parts and promises as one JSON document."""
    promised = {key: value for key, value in model.document.items() if key != "ensemble"}
    return {
        "model": str(model.path),
        "bytes": model.path.stat().st_size,
        "sha256": model.sha256,
        "parts": [vars(part) for part in parts],
        "maps": maps_of_file(model),
        "gflop": sum(part.gflop for part in parts),
        "ms": sum(part.ms for part in parts),
        "metadata": promised,
    }
