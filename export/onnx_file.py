"""Writing the fused graph as one ONNX file that explains itself."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from contracts.errors import ModelError
from contracts.files import atomic_writer
from export.graph import FusedGraph, GraphOutputs
from export.scoring.model import METADATA_KEY, NEWEST_FORMAT

OPSET = 18
# A protobuf message ends at 2 GiB; the rest is for the graph itself.
_MOST_WEIGHT_BYTES = 2**31 - 2**26


def add_metadata(path: Path, facts: dict[str, Any]) -> None:
    """Add facts to a file's own document; facts of the same name are replaced."""
    model = onnx.load(str(path))
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = json.dumps({**json.loads(entry.value), **facts}, sort_keys=True)
    with atomic_writer(path) as handle:
        handle.write(model.SerializeToString())


def write_onnx(
    path: Path,
    graph: FusedGraph,
    prior: np.ndarray,
    threshold: np.ndarray | float,
    metadata: dict[str, Any],
) -> None:
    """Trace ``graph`` and write it as a single file without external data.

    ``prior`` and ``threshold`` become inputs with defaults (initialisers of the same name, which ONNX
    runtimes let a caller override); batch, height and width stay free.

    Args:
        path: target; written whole or not at all.
        graph: in evaluation mode, on the CPU.
        prior: ``[]`` or ``[K]`` default deployment prior.
        threshold: ``[]`` default decision threshold, 0…1, or ``[K]`` of them.
        metadata: JSON-serialisable facts; stored under the key ``outnumbered``.

    Raises:
        ModelError: the graph is too large for one file, could not be traced or is not valid ONNX.
    """
    n_bytes = sum(value.numel() * value.element_size() for value in (*graph.parameters(), *graph.buffers()))
    if n_bytes > _MOST_WEIGHT_BYTES:
        raise ModelError(
            f"export, stage sizing: {n_bytes / 2**30:.1f} GiB of weights do not go into one ONNX file, which "
            "holds 2 GiB. Use smaller trunks, fewer members or a smaller bank_size."
        )
    graph = graph.eval()
    size = graph.image_size
    # Neither side may be the working size, or tracing would take the resize for an identity.
    images = torch.zeros(2, size + 16, size + 8, 3, dtype=torch.uint8)
    defaults = {
        "prior": np.asarray(prior, dtype=np.float32),
        "threshold": np.asarray(threshold, dtype=np.float32),
    }
    inputs = (images, *(torch.from_numpy(value.copy()) for value in defaults.values()))
    with torch.inference_mode():
        n_outputs = len(graph(*inputs))
    batch, height, width = (torch.export.Dim(name) for name in ("N", "H", "W"))
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                graph,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=["images", *defaults],
                output_names=list(GraphOutputs._fields[:n_outputs]),
                dynamic_shapes=({0: batch, 1: height, 2: width}, None, None),
                verbose=False,
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"export, stage tracing: {type(error).__name__}: {reason}") from error
    if program is None:
        raise ModelError("export, stage tracing: the exporter gave no program.")
    model: onnx.ModelProto = program.model_proto
    for name, value in defaults.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.producer_name = "outnumbered"
    entry = model.metadata_props.add()
    entry.key = METADATA_KEY
    entry.value = json.dumps({"format": NEWEST_FORMAT, **metadata}, sort_keys=True)
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"export, stage checking: {' '.join(str(error).split())[:300]}") from error
    with atomic_writer(path) as handle:
        handle.write(model.SerializeToString())
