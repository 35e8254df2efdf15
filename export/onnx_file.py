"""Writing the fused graph as one ONNX file that explains itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from contracts.backbone_graph import PATCHES, PIXELS, POOLED
from contracts.errors import ModelError
from contracts.files import atomic_writer
from contracts.triage import LEVELS
from export.backbone_graph import backbone_graph, name_scopes
from export.graph import FusedGraph, GraphBesideBackbones
from export.scoring import seal
from export.scoring.promises import METADATA_KEY, NEWEST_FORMAT
from export.scoring.training_images import METADATA_KEY as TRAINING_IMAGES_KEY
from export.scoring.training_images import TrainingImages
from export.tracing import keep_outputs, put_into, trace

# A protobuf message ends at 2 GiB; the rest is for the graph itself.
_MOST_WEIGHT_BYTES = 2**31 - 2**26


def add_metadata(path: Path, facts: dict[str, Any]) -> None:
    """Add facts to a file's own document; facts of the same name are replaced."""
    model = onnx.load(str(path))
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = json.dumps({**json.loads(entry.value), **facts}, sort_keys=True)
    _write_sealed(path, model)


def _write_sealed(path: Path, model: onnx.ModelProto) -> None:
    """Write a file with its own digest in it; see :mod:`export.scoring.seal`."""
    entries = [each for each in model.metadata_props if each.key == seal.KEY]
    entry = entries[0] if entries else model.metadata_props.add()
    entry.key, entry.value = seal.KEY, seal.BLANK
    with atomic_writer(path) as handle:
        handle.write(seal.sealed(model.SerializeToString()))


def write_onnx(
    path: Path,
    graph: FusedGraph,
    prior: np.ndarray | None,
    threshold: np.ndarray | float,
    metadata: dict[str, Any],
    backbone_graphs: Mapping[str, onnx.ModelProto] | None = None,
    training_images: TrainingImages | None = None,
    levels: tuple[float, float] | None = None,
) -> None:
    """Trace ``graph`` and write it as a single file without external data.

    ``prior``, ``threshold`` and the error rates of triage become inputs with defaults (initialisers of the
    same name, which ONNX runtimes let a caller override); batch, height and width stay free.

    Args:
        path: target; written whole or not at all.
        graph: in evaluation mode, on the CPU.
        prior: ``[]`` or ``[K]`` default deployment prior; None for a graph without a probability, which has
            no such input.
        threshold: ``[]`` default decision threshold, 0…1, or ``[K]`` of them.
        metadata: JSON-serialisable facts; stored under the key ``outnumbered``.
        training_images: what tells the images that the graph was trained on, for the scorer; None for none.
        backbone_graphs: key of a backbone → its graph (:mod:`contracts.backbone_graph`), where there is one,
            so that it is not traced here. None are changed.
        levels: default error rates of triage, in the order of :data:`contracts.triage.LEVELS`; None for a
            graph without triage.

    Raises:
        ModelError: the graph is too large for one file, could not be traced or is not valid ONNX.
    """
    # Checked before tracing: protobuf's own error would come late and name no cause.
    n_bytes = sum(value.numel() * value.element_size() for value in (*graph.parameters(), *graph.buffers()))
    if n_bytes > _MOST_WEIGHT_BYTES:
        raise ModelError(
            f"export, stage sizing: {n_bytes / 2**30:.1f} GiB of weights do not go into one ONNX file, which "
            "holds 2 GiB. Use smaller backbones, fewer members or a smaller bank_size."
        )
    defaults = {
        **({} if prior is None else {"prior": np.asarray(prior, dtype=np.float32)}),
        "threshold": np.asarray(threshold, dtype=np.float32),
    }
    if levels is not None:
        defaults |= {name: np.asarray(rate, np.float32) for name, rate in zip(LEVELS, levels, strict=True)}
    model = _traced(graph.eval(), defaults, backbone_graphs or {})
    # An initialiser that is also an input is ONNX's way to give an input a default.
    for name, value in defaults.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.producer_name = "outnumbered"
    documents = {METADATA_KEY: json.dumps({"format": NEWEST_FORMAT, **metadata}, sort_keys=True)}
    if training_images is not None:
        documents[TRAINING_IMAGES_KEY] = training_images.to_text()
    for key, text in documents.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    try:
        # full_check also infers shapes, which finds joins of parts that do not fit each other.
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"export, stage checking: {' '.join(str(error).split())[:300]}") from error
    _write_sealed(path, model)


def _traced(
    graph: FusedGraph, defaults: Mapping[str, np.ndarray], backbone_graphs: Mapping[str, onnx.ModelProto]
) -> onnx.ModelProto:
    """The whole graph: the backbones, as kept or traced, in what is traced around them."""
    size = graph.image_size
    # Neither side may be the working size, or tracing would take the resize for an identity.
    images = torch.zeros(2, size + 16, size + 8, 3, dtype=torch.uint8)
    given = [torch.from_numpy(value.copy()) for value in defaults.values()]
    with torch.inference_mode():
        features = [backbone(graph.seen(images)) for backbone in graph.backbones]
    beside = GraphBesideBackbones(graph, [type(each) for each in features]).eval()
    # The backbones' real outputs: the tracer takes dtypes and fixed sizes from them.
    of_backbones = [(pooled, patches) for _, pooled, patches in features]
    with torch.inference_mode():
        outputs = list(graph.outputs_of(features, given).present)
    prefixes = [f"backbones.{number}/" for number in range(len(features))]
    taken = [prefix + name for prefix in prefixes for name in (POOLED, PATCHES)]
    # Of a multiple of N the tracer's algebra would take N for its own function of that name.
    names = ("images", "H", "W") if graph.sees_both_ways else ("N", "H", "W")
    batch, height, width = (torch.export.Dim(name) for name in names)
    seen: Any = 2 * batch if graph.sees_both_ways else batch
    model = trace(
        beside,
        (images, given, of_backbones),
        ["images", *defaults, *taken],
        [PIXELS, *outputs],
        (
            {0: batch, 1: height, 2: width},
            # Empty and not None: a list of nothing else is taken for the axes of one input.
            [{} for _ in given],
            [({0: seen}, {0: seen}) for _ in features],
        ),
    )
    for number, (key, backbone) in enumerate(zip(graph.backbone_keys, graph.backbones, strict=True)):
        kept = backbone_graphs.get(key)
        part = backbone_graph(backbone, size) if kept is None else _copied(kept)
        # Before joining, so that every node can still say which backbone it came from.
        name_scopes(part.graph, number)
        if graph.sees_both_ways:
            _rename_batch(part.graph, seen.__name__)
        put_into(model, part, prefixes[number], {PIXELS: PIXELS})
    # The resized pixels were an output only to connect the backbones; the file does not promise them.
    keep_outputs(model.graph, outputs)
    return model


def _rename_batch(graph: onnx.GraphProto, name: str) -> None:
    """Give the free axis of a backbone's graph, of twice as many images as the file's, this name, in place.

    Runtimes plan memory by the names of axes: two values with the same name have to be of the same length.
    """
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = name


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
