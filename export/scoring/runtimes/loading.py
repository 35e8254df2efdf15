"""What loads a file's graph into the runtime that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from contracts.errors import UsageError
from export.scoring.runtimes.sessions import GraphFacts, GraphSession, open_onnxruntime
from imagedata.decoding.decode import DecodeSettings


def loader(
    path: Path, facts: GraphFacts, document: dict[str, Any], threads: int, runtime: str
) -> Callable[[Sequence[str]], GraphSession]:
    """What loads the file's graph without the outputs that it is given; refuses at once what it could not."""
    if runtime != "openvino":
        return partial(open_onnxruntime, path, threads)
    from export.scoring.runtimes.openvino_session import OpenVinoSession, check_openvino

    precision = str(document.get("precision", "fp32"))
    _check_gate(path, document, "openvino")
    check_openvino(path, precision)
    size = DecodeSettings.from_json(document["decode"]).size
    return partial(OpenVinoSession, path, facts, size, precision, threads)


def _check_gate(path: Path, document: dict[str, Any], runtime: str) -> None:
    """Refuse a runtime in which the accuracy gate of a variant found its figures wrong.

    Raises:
        UsageError: with the gate's reasons.
    """
    gate = document.get("gate", {}).get(runtime)
    if gate is None or gate["accepted"]:
        return
    reasons = " and ".join(gate.get("refusals", ())) or "no reason is recorded"
    raise UsageError(
        f"{path}: the {document['precision']} file failed its accuracy gate in {runtime}: {reasons}. "
        "Score with --runtime onnxruntime, or use the fp32 file."
    )
