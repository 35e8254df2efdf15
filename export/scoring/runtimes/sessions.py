"""What a runtime must be able to do with an exported graph, and ONNX Runtime doing it.

The scorer and the parity gate speak to :class:`GraphSession` only, so another runtime is one file more
(:mod:`export.scoring.runtimes.openvino_session`) and changes nothing above it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt
import onnxruntime

from contracts.errors import ModelError
from export.scoring.runtimes.pruned_graph import without_outputs

Feeds = Mapping[str, npt.NDArray[Any]]
Outputs = dict[str, npt.NDArray[Any]]

_LOG_FATAL_ONLY = 4


@dataclass(frozen=True)
class Port:
    """One input or output of a graph.

    Attributes:
        name: as in the file.
        type: ONNX's word, such as ``tensor(float)``.
        shape: sizes; a name or None where the size is free.
    """

    name: str
    type: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class GraphFacts:
    """What a file says of itself before anything is run.

    Attributes:
        inputs: those that must be fed.
        outputs: in the file's order.
        adjustable: names of inputs with a default, which a caller may override.
        metadata: the file's key-value texts.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    adjustable: frozenset[str]
    metadata: dict[str, str]


class GraphSession(Protocol):
    """One loaded graph; one thread of control at a time."""

    @property
    def runtime(self) -> str:
        """Name of the runtime, as ``--runtime`` takes it."""

    def run(self, feeds: Feeds) -> Outputs:
        """Run the graph.

        Args:
            feeds: ``images`` and any adjustable inputs.

        Returns:
            Every output that was loaded, by name.

        Raises:
            Exception: whatever the runtime raises; the caller puts it into words.
        """


class OnnxRuntimeSession:
    """The reference: any processor, and an NVIDIA card where onnxruntime-gpu is installed.

    Args:
        session: ONNX Runtime's own.
    """

    runtime = "onnxruntime"

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._names = [output.name for output in session.get_outputs()]

    def run(self, feeds: Feeds) -> Outputs:
        """See :class:`GraphSession`."""
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))

    def facts(self) -> GraphFacts:
        """What the file says of itself."""
        return GraphFacts(
            inputs=_ports(self._session.get_inputs()),
            outputs=_ports(self._session.get_outputs()),
            adjustable=frozenset(value.name for value in self._session.get_overridable_initializers()),
            metadata=dict(self._session.get_modelmeta().custom_metadata_map),
        )


class OpenedLater:
    """A graph that is loaded when it is first run: a driver of workers never runs it.

    Args:
        runtime: name of the runtime.
        load: loads it.
    """

    def __init__(self, runtime: str, load: Callable[[], GraphSession]) -> None:
        self.runtime = runtime
        self._load = load
        self._session: GraphSession | None = None

    def run(self, feeds: Feeds) -> Outputs:
        """See :class:`GraphSession`."""
        if self._session is None:
            self._session = self._load()
        return self._session.run(feeds)


def open_onnxruntime(
    path: Path, threads: int, without: Collection[str] = (), *, optimised: bool = True
) -> OnnxRuntimeSession:
    """Load a file into ONNX Runtime.

    Args:
        path: an ONNX file.
        threads: within one operator.
        without: outputs that are left out, and with them what they alone need.
        optimised: False to read the file's facts only, which takes a tenth of the time.

    Raises:
        ModelError: ONNX Runtime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Operators run one after another, so threads between operators would only be idle.
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _LOG_FATAL_ONLY  # its errors arrive as exceptions; once is enough
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    # In the order of preference; ONNX Runtime assigns each node to the first provider that can run it.
    there = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        graph = without_outputs(path.read_bytes(), without) if without else str(path)
        session = onnxruntime.InferenceSession(graph, options, providers=there)
    except Exception as error:  # ONNX Runtime raises many types, none of them public
        raise ModelError(
            f"{path}: ONNX Runtime cannot load it ({first_line(error)}). "
            "Give a file written by 'outnumbered export'; if it was one, copy or export it again."
        ) from error
    return OnnxRuntimeSession(session)


def first_line(error: Exception) -> str:
    """The first line of a long message, without its final stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")


def _ports(values: Any) -> tuple[Port, ...]:
    return tuple(Port(value.name, value.type, tuple(value.shape)) for value in values)
