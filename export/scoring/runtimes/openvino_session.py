"""OpenVINO behind the same face as ONNX Runtime; reads the same file.

Three things are done on purpose. The precision is set, because OpenVINO takes bfloat16 by itself where the
processor has it, and nobody passed that through a gate. Height and width are fixed at the working size,
which the scorer always decodes to, so that the resize inside falls away; pixels of another size are refused,
because OpenVINO's antialiased resize is not that of training (probabilities moved by 0.19 on noise).
And defaults that a caller may override, which OpenVINO reads as constants, are made inputs again.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError, UsageError
from export.scoring.runtimes.sessions import Feeds, GraphFacts, Outputs, first_line

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Our precisions in OpenVINO's words; an int8 file says itself which operators are int8."""


def check_openvino(path: Path, precision: str) -> None:
    """Refuse what :class:`OpenVinoSession` would, before anything is compiled.

    Raises:
        UsageError: OpenVINO is not installed, or the processor cannot compute in this precision.
    """
    _import_openvino()
    _check_precision(path, precision, processor_capabilities())


class OpenVinoSession:
    """One file compiled for the processor.

    Args:
        path: an ONNX file of ours.
        facts: what it says of itself.
        size: working size in pixels.
        precision: ``fp32``, ``bf16`` or ``int8``.
        threads: processor threads.
        without: outputs that are left out, and with them what they alone need.

    Raises:
        UsageError: OpenVINO is not installed, or the processor cannot compute in this precision.
        ModelError: OpenVINO cannot compile the file.
    """

    runtime = "openvino"

    def __init__(
        self,
        path: Path,
        facts: GraphFacts,
        size: int,
        precision: str,
        threads: int,
        without: Collection[str] = (),
    ) -> None:
        openvino = _import_openvino()
        self._core = openvino.Core()
        _check_precision(path, precision, processor_capabilities())
        self._path = path
        self._size = size
        self._outputs = [output.name for output in facts.outputs if output.name not in without]
        self._settings = {
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            # One stream per process; throughput comes from several processes.
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # several processes, each told to take the first core
        }
        self._adjustable = facts.adjustable
        self._defaults: dict[str, npt.NDArray[Any]] = {}
        self._compiled = self._compile(openvino)

    def run(self, feeds: Feeds) -> Outputs:
        """See :class:`export.scoring.runtimes.sessions.GraphSession`."""
        side = feeds["images"].shape[1:3]
        if side != (self._size, self._size):
            raise ModelError(
                f"{self._path}: images of {side[0]}x{side[1]} pixels, but OpenVINO's resize is not that of "
                f"training. Decode them to {self._size}x{self._size}, or use the runtime onnxruntime."
            )
        results = self._compiled({**self._defaults, **feeds})
        # Copied: OpenVINO reuses the memory of its results at the next call.
        return {name: np.array(results[name]) for name in self._outputs}

    def _compile(self, openvino: Any) -> Any:
        try:
            model = self._core.read_model(str(self._path))
            model.reshape({"images": openvino.PartialShape([-1, self._size, self._size, 3])})
            self._free_defaults(model, openvino)
            # It computes what its results need, so these are all that has to go.
            for result in model.get_results():
                if not result.input_value(0).get_names() & set(self._outputs):
                    model.remove_result(result)
            return self._core.compile_model(model, "CPU", self._settings)
        except Exception as error:  # OpenVINO raises RuntimeError and its own
            raise ModelError(
                f"{self._path}: OpenVINO cannot compile it ({first_line(error)}). Score with "
                "--runtime onnxruntime."
            ) from error

    def _free_defaults(self, model: Any, openvino: Any) -> None:
        """Put a parameter in the place of every constant that a caller may override."""
        for operation in model.get_ops():
            name = operation.get_friendly_name()
            if name not in self._adjustable or operation.get_type_name() != "Constant":
                continue
            # Copied, because the constant goes with the graph that is about to be changed.
            self._defaults[name] = np.array(operation.get_data())
            output = operation.output(0)
            parameter = openvino.op.Parameter(output.get_element_type(), output.get_partial_shape())
            parameter.set_friendly_name(name)
            for target in list(output.get_target_inputs()):
                target.replace_source_output(parameter.output(0))
            parameter.output(0).get_tensor().set_names({name})
            model.add_parameters([parameter])
        missing = self._adjustable - set(self._defaults)
        if missing:
            raise ModelError(f"{self._path}: OpenVINO does not find {', '.join(sorted(missing))} in it.")


def processor_capabilities() -> list[str]:
    """What this processor computes in by itself, in OpenVINO's words such as ``FP32``, ``BF16``, ``INT8``.

    Raises:
        UsageError: OpenVINO is not installed.
    """
    return list(_import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _import_openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise UsageError(
            "runtime openvino is not installed. Give: pip install 'outnumbered[fast]', or use "
            "--runtime onnxruntime."
        ) from error
    return openvino


def _check_precision(path: Path, precision: str, capabilities: list[str]) -> None:
    """OpenVINO would compute bfloat16 files in fp32 without a word where the processor has none."""
    if precision == "bf16" and "BF16" not in capabilities:
        raise UsageError(
            f"{path}: a bf16 file, but this processor has no bfloat16 arithmetic (AVX-512 BF16 or AMX; "
            f"it has {', '.join(capabilities)}). Score with --runtime onnxruntime, which computes it in "
            "fp32, or use the fp32 or int8 file."
        )
