"""From a torch module to an ONNX graph, and from graphs traced apart to one."""

from __future__ import annotations

import graphlib
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import onnx
import onnx.compose
import torch
from torch import nn

from contracts.backbone_graph import OPSET
from contracts.errors import ModelError


def trace(
    module: nn.Module,
    inputs: tuple[Any, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: tuple[Any, ...],
) -> onnx.ModelProto:
    """The graph of a module.

    Args:
        module: in evaluation mode, on the CPU.
        inputs: what it is called with.
        input_names: of all tensors among the inputs, in order.
        output_names: of all tensors that it returns.
        dynamic_shapes: axes of the inputs that stay free, as ``torch.export`` takes them.

    Raises:
        ModelError: it could not be traced.
    """
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            for name in ("torch.onnx", "onnxscript"):
                logging.getLogger(name).setLevel(logging.ERROR)
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(input_names),
                output_names=list(output_names),
                dynamic_shapes=dynamic_shapes,
                verbose=False,
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"export, stage tracing: {type(error).__name__}: {reason}") from error
    if program is None:
        raise ModelError("export, stage tracing: the exporter gave no program.")
    model: onnx.ModelProto = program.model_proto
    return model


def put_into(model: onnx.ModelProto, part: onnx.ModelProto, prefix: str, given: dict[str, str]) -> None:
    """Put a graph where another takes what it gives: inputs of ``model`` become values that ``part`` makes.

    Args:
        model: changed in place. Its inputs that are called like an output of ``part`` behind the prefix are
            what it takes.
        part: not changed.
        prefix: before all names of ``part``, which keeps them apart.
        given: input of ``part`` → value of ``model`` that it takes.

    Raises:
        ModelError: they speak different versions of ONNX's operators.
    """
    versions = {each.domain: each.version for each in model.opset_import}
    for each in part.opset_import:
        # Operators may change their meaning between versions, so graphs of different versions must not be
        # joined.
        if versions.setdefault(each.domain, each.version) != each.version:
            raise ModelError(
                f"export, stage joining: operators '{each.domain}' of versions {versions[each.domain]} and "
                f"{each.version} in one graph."
            )
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*each) for each in versions.items())
    # Local functions are shared: both tracings bring the same definitions.
    known = {(each.domain, each.name, each.overload) for each in model.functions}
    model.functions.extend(e for e in part.functions if (e.domain, e.name, e.overload) not in known)

    # Prefixes keep the names of values unique; ONNX has one namespace per graph.
    graph = onnx.compose.add_prefix_graph(part.graph, prefix)
    value_of = {prefix + name: value for name, value in given.items()}
    for node in graph.node:
        node.input[:] = [value_of.get(name, name) for name in node.input]
    made = {output.name for output in graph.output}
    taken = [each for each in model.graph.input if each.name in made]
    for each in taken:
        model.graph.input.remove(each)
    model.graph.node.extend(graph.node)
    model.graph.initializer.extend(graph.initializer)
    model.graph.value_info.extend([*taken, *graph.value_info])


def keep_outputs(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Leave of a graph what some of its outputs depend on, in an order in which it can be run.

    Args:
        graph: changed in place; its nodes may stand in any order.
        names: of the outputs to be kept.
    """
    nodes = list(graph.node)
    maker_of = {name: place for place, node in enumerate(nodes) for name in node.output}
    makers = [{maker_of[name] for name in _reads(node) if name in maker_of} for node in nodes]
    needed: set[int] = set()
    waiting = {maker_of[name] for name in names}
    while waiting:
        place = waiting.pop()
        needed.add(place)
        waiting |= makers[place] - needed
    # Sorted places make the order, and so the file's bytes, the same at every export.
    order = graphlib.TopologicalSorter({place: sorted(makers[place]) for place in sorted(needed)})
    kept = [nodes[place] for place in order.static_order()]
    read = {name for node in kept for name in _reads(node)}
    made = {name for node in kept for name in node.output}
    # Copied before the field is cleared, because its messages die with it.
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)
    _keep(graph.output, set(names))
    _keep(graph.initializer, read)
    _keep(graph.value_info, made)


def _reads(node: onnx.NodeProto) -> set[str]:
    """Values that a node reads, also those that graphs inside of it read from around it."""
    inner = [
        name
        for attribute in node.attribute
        for graph in (attribute.g, *attribute.graphs)
        for each in graph.node
        for name in _reads(each)
    ]
    return {*node.input, *inner}


def _keep(field: Any, names: set[str]) -> None:
    """Leave of a repeated field what has one of these names; nothing is copied, as weights may be large."""
    for place in reversed(range(len(field))):
        if field[place].name not in names:
            del field[place]
