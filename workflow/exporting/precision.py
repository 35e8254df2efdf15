"""``export --precision``: a faster second file, kept only if it passes the accuracy gate; and ``parity``."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from contracts.errors import ModelError, UsageError, nearest_match
from contracts.files import sha256_of_file, write_json
from contracts.rows import FloatArray, ImageArray
from ensemble.fitted import FittedEnsemble
from evaluation.agreement import (
    MOST_AUROC_LOSS,
    MOST_DECISIONS_CHANGED,
    Agreement,
    Outputs,
    agreement,
)
from export.scoring.model import RUNTIMES, ScoringModel, load_model
from export.scoring.probe import PROBE_KEY, probe_of
from reporting.terminal import console, note, progress_bar
from workflow.ensembling.gate_images import GateImages, decode_rows, gate_images
from workflow.exporting.export import export, float32_file
from workflow.run.state import Run
from workflow.settings.config import RunConfig, RunOptions

PRECISIONS = ("fp32", "bf16", "int8")

GATE_IMAGES = 1000
"""Most images that the gate looks at, as many of each class as there are."""

CALIBRATION_IMAGES = 200
"""Training images whose activations set the int8 ranges."""

_BATCH = 16


def export_in(options: RunOptions, precision: str, output: Path | None = None) -> dict[str, Any]:
    """Export a run in a precision: float32 as usual, the others by :func:`export_precision`.

    Raises:
        UsageError: no such precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(
            f"--precision {precision}: there is no such precision.{nearest_match(precision, PRECISIONS)} "
            f"Known: {', '.join(PRECISIONS)}."
        )
    return export(options, output) if precision == "fp32" else export_precision(options, precision, output)


def export_precision(options: RunOptions, precision: str, output: Path | None = None) -> dict[str, Any]:
    """Export a run in a lower precision, beside the float32 file that it is compared with.

    Args:
        options: which run.
        precision: ``bf16`` or ``int8``.
        output: target; ``model.<precision>.onnx`` in the run folder when not given.

    Returns:
        ``{dataset, recipe, model, bytes, sha256, precision, gate}``.

    Raises:
        UsageError: no such precision, or this machine cannot compute in it, so nothing can be gated.
        ModelError: no ensemble yet, or no runtime passes the gate; states the figures.
    """
    from export.onnx_file import add_metadata

    runtimes = _gating_runtimes(precision)  # refuses before any work is done
    run = Run.open(options).require_ensemble()
    source = float32_file(run)
    target = output or run.config.folder / f"model.{precision}.onnx"
    provisional = target.with_name(f".{target.name}.unchecked")
    try:
        with console.status(f"writing the {precision} file", spinner="dots"):
            facts = _write_variant(run, source, provisional, precision)
        shown = gate_images(run, GATE_IMAGES)
        reference = _run(load_model(source), shown.images, "reference")
        gate = _run_gates(provisional, runtimes, shown, reference)
        passed = [runtime for runtime, of_runtime in gate.items() if of_runtime.accepted]
        show_gate(gate, f"{precision} against fp32", shown.what)
        if not passed:
            raise ModelError(_refusal(run.config, precision, gate))
        add_metadata(
            provisional,
            {
                **facts,
                "gate": {runtime: of_runtime.to_json() for runtime, of_runtime in gate.items()},
                # The float32 file's is of other numbers.
                PROBE_KEY: probe_of(load_model(provisional, runtime=passed[0]), shown.spreads),
            },
        )
        provisional.replace(target)
    finally:
        provisional.unlink(missing_ok=True)
    document = {
        "dataset": run.config.spec.name,
        "recipe": run.config.recipe.name,
        "model": str(target),
        "bytes": target.stat().st_size,
        "sha256": sha256_of_file(target),
        "precision": precision,
        "gate": {runtime: of_runtime.to_json() for runtime, of_runtime in gate.items()},
    }
    write_json(run.config.folder / f"export.{precision}.json", document)
    note(
        f"Exported {target} ({target.stat().st_size / 1e6:.1f} MB), to be scored with {' or '.join(passed)}."
    )
    return document


def outputs_of(fitted: FittedEnsemble, scores: FloatArray) -> Outputs:
    """What the trained ensemble says of ``[N, M]`` member scores."""
    probability = fitted.predict(scores) if fitted.has_probability else None
    return Outputs(probability, fitted.decide(scores), scores)


def _write_variant(run: Run, source: Path, target: Path, precision: str) -> dict[str, Any]:
    """Write the file before the gate; return what its metadata is to say."""
    from export.onnx_file import add_metadata

    facts: dict[str, Any] = {"precision": precision, "variant_of": sha256_of_file(source)}
    if precision == "int8":
        from workflow.exporting.int8 import quantise_backbones

        chosen = np.linspace(0, len(run.data.train) - 1, min(CALIBRATION_IMAGES, len(run.data.train)))
        rows = [run.data.train[i] for i in np.unique(chosen.astype(int))]
        images = decode_rows(run.config, run.data, rows, "decoding training images")
        facts["int8_convolutions"] = quantise_backbones(source, target, images)
        facts["calibration_images"] = len(images)
    else:
        # bfloat16 is the processor's own work on a float32 file: the file says that it may.
        target.write_bytes(source.read_bytes())
    add_metadata(target, facts)
    return facts


def _gating_runtimes(precision: str) -> tuple[str, ...]:
    """Runtimes that a precision is gated in.

    ONNX Runtime computes a bf16 file in fp32 on processors, which would gate nothing.
    """
    if precision == "bf16":
        from export.scoring.runtimes.openvino_session import processor_capabilities

        there = processor_capabilities()
        if "BF16" not in there:
            raise UsageError(
                "--precision bf16: this processor has no bfloat16 arithmetic (AVX-512 BF16 or AMX), so the "
                f"accuracy gate cannot be run here; it has {', '.join(there)}. Export it where there is."
            )
        return ("openvino",)
    has_openvino = importlib.util.find_spec("openvino") is not None
    return RUNTIMES if has_openvino else RUNTIMES[:1]


def _run_gates(
    path: Path, runtimes: Sequence[str], shown: GateImages, reference: Outputs
) -> dict[str, Agreement]:
    """Runtime → how far a variant computed by it is from the reference, and from the variant in ONNX Runtime.

    The second comparison tells a runtime that misreads the file from a precision that costs accuracy.
    """
    gate: dict[str, Agreement] = {}
    in_onnxruntime: Outputs | None = None
    for runtime in runtimes:
        model = load_model(path, threads=1, runtime=runtime)
        outputs = _run(model, shown.images, f"{path.name}, {runtime}")
        gate[runtime] = agreement(shown.labels, reference, outputs, model.members, in_onnxruntime)
        if runtime == RUNTIMES[0]:
            in_onnxruntime = outputs
    return gate


def run_gate(path: Path, runtime: str, shown: GateImages, reference: Outputs) -> Agreement:
    """How far a file's outputs, computed by a runtime on one thread, are from the reference's."""
    model = load_model(path, threads=1, runtime=runtime)
    outputs = _run(model, shown.images, f"{path.name}, {runtime}")
    return agreement(shown.labels, reference, outputs, model.members)


def _run(model: ScoringModel, images: ImageArray, description: str) -> Outputs:
    parts = []
    with progress_bar(description, len(images)) as bar:
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            parts.append(model.run(batch))
            bar.advance(len(batch))
    probabilities = [part.probability for part in parts if part.probability is not None]
    return Outputs(
        np.concatenate(probabilities) if probabilities else None,
        np.concatenate([part.decision for part in parts]),
        np.concatenate([part.member_scores for part in parts]),
    )


def show_gate(figures: dict[str, Any], title: str, what: str) -> None:
    """Print one row per file and runtime: its agreement, or the reason why it was not run.

    Args:
        figures: name of the row → :class:`evaluation.agreement.Agreement`, or a reason.
        title: of the table.
        what: images that it was measured on.
    """
    counted = {row.images for row in figures.values() if not isinstance(row, str)}
    table = Table(title=f"{title}, {max(counted):,} {what}" if counted else title)
    table.add_column("")
    for heading in ("AUROC", "change, 95 %", "max |Δp|", "flips", "least rho"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("gate")
    for name, row in figures.items():
        if isinstance(row, str):
            table.add_row(name, *[""] * 5, row)
            continue
        table.add_row(
            name,
            "-" if row.auroc is None else f"{row.auroc:.4f}",
            "-" if row.auroc is None else "{:+.4f}…{:+.4f}".format(*row.auroc_change_interval),
            "-" if row.max_probability_difference is None else f"{row.max_probability_difference:.1e}",
            str(row.decisions_changed),
            f"{np.min(list(row.rank_correlation.values())):.3f}",
            "passed" if row.accepted else "refused",
        )
    console.print(table)
    note(
        f"Refused where the whole 95 % interval of the AUROC's change lies below -{MOST_AUROC_LOSS:g}, where "
        f"more than {MOST_DECISIONS_CHANGED:.0%} of the decisions change, or where the runtime misreads the "
        "file. flips: images decided differently. least rho: the lowest rank correlation of a member's score "
        "with the reference's."
    )


def _refusal(config: RunConfig, precision: str, gate: dict[str, Agreement]) -> str:
    reasons = "; ".join(
        f"{runtime}: {' and '.join(row.refusals)}; rank correlations with fp32 "
        + ", ".join(f"{name} {rho:.3f}" for name, rho in row.rank_correlation.items())
        for runtime, row in gate.items()
    )
    # A ResNet that loses too much has no better relative to be sent to.
    is_resnet = "resnet" in config.recipe.backbone.name
    elsewhere = (
        ""
        if is_resnet
        else ", or train on another backbone: ResNets lose less in int8 than depthwise networks"
    )
    return (
        f"{config.folder}: the {precision} file is refused by the accuracy gate and not kept ({reasons}). "
        f"Ship the fp32 file, {config.folder / 'model.onnx'}{elsewhere}."
    )
