"""Which network a student gets: the strongest of a short list that keeps to the budget on this machine."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from contracts.backbone_graph import OPSET
from contracts.errors import UsageError
from export.scoring.model import load_model
from export.scoring.runtimes.sessions import open_onnxruntime
from export.timing import Timed, as_timed, milliseconds_an_image
from features.settings import BackboneSettings
from reporting.terminal import console, note, progress_bar
from supervised.whole_cnn.module import TunedModule
from workflow.exporting.student.plan import StudentPlan

CANDIDATES = (
    "small_cnn_16@32",
    "small_cnn@32",
    "tf_efficientnet_lite0@64",
    "tf_efficientnet_lite0@96",
    "tf_efficientnet_lite0@128",
    "tf_efficientnet_lite0@160",
    "tf_efficientnet_lite0@224",
)
"""Students to choose among, from the weakest to the strongest, which is from the cheapest to the costliest
as well; none needs a hub. A wide small CNN at 64 px is not among them: it costs more than a pre-trained
network at 96 px. Sizes are multiples of 32, so that one graph of a network serves all of its sizes."""

BUDGET_SHARE = 0.25
"""The default budget as a share of what the ensemble costs."""


def choose_student(
    n_classes: int, epochs: int, budget: float | None, ensemble: Path | None
) -> tuple[StudentPlan, dict[str, Any]]:
    """Time the candidates' networks, with random weights, and take the strongest within the budget.

    Args:
        n_classes: K.
        epochs: of the student's training.
        budget: most milliseconds per image on one thread in ONNX Runtime; None for a quarter of the
            ensemble's.
        ensemble: the ensemble's file, timed in turn with the candidates; None where it has none.

    Returns:
        The plan, and ``{budget_ms, ensemble_ms, candidates}`` with candidate → milliseconds.

    Raises:
        UsageError: no candidate keeps to the budget, or there is nothing that a budget follows from.
    """
    if budget is None and ensemble is None:
        raise UsageError(
            "--distil: this ensemble has no ONNX file, so no budget follows from what it costs. Give "
            "--budget MS, in milliseconds per image, or --student NAME@SIZE."
        )
    plans = {name: StudentPlan.parse(name, epochs) for name in CANDIDATES}
    graphs = {} if ensemble is None else {"ensemble": as_timed(load_model(ensemble))}
    milliseconds = milliseconds_an_image(graphs | untrained_graphs(plans, n_classes))
    of_ensemble = milliseconds.pop("ensemble", None)
    limit = budget
    if limit is None:
        assert of_ensemble is not None  # without its file there is a budget
        limit = BUDGET_SHARE * of_ensemble
    chosen = strongest_within(milliseconds, limit)
    _show(milliseconds, limit, of_ensemble, chosen)
    if chosen is None:
        fastest = min(milliseconds, key=lambda name: milliseconds[name])
        raise UsageError(
            f"--distil: no student keeps to {limit:.3g} ms per image here; the fastest, {fastest}, takes "
            f"{milliseconds[fastest]:.3g} ms per image. Give a larger --budget, or name a smaller one, such "
            "as --student small_cnn_16@16."
        )
    facts = {"budget_ms": limit, "ensemble_ms": of_ensemble, "candidates": milliseconds}
    return plans[chosen], facts


def strongest_within(milliseconds: dict[str, float], limit: float) -> str | None:
    """The last name with no more than ``limit`` milliseconds; None where there is none."""
    fitting = [name for name, taken in milliseconds.items() if taken <= limit]
    return fitting[-1] if fitting else None


def check_student(plan: StudentPlan, n_classes: int) -> None:
    """Refuse a named student before minutes are spent on it.

    Raises:
        UsageError: there is no such network, or it does not take images of that size.
    """
    network = _untrained(plan, n_classes)
    size = plan.image_size
    try:
        with torch.inference_mode():
            network.logits(torch.zeros(1, 3, size, size))
    except Exception as error:  # networks assert, or fail wherever a map has shrunk to nothing
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UsageError(
            f"--student {plan.name}: the network takes no images of {size} px ({reason}). Give another size."
        ) from error


def untrained_graphs(plans: dict[str, StudentPlan], n_classes: int) -> dict[str, Timed]:
    """Students with random weights, in ONNX Runtime on one thread.

    They cost what trained ones cost, but for resize and calibrator.

    Args:
        plans: name → student, of networks in which nothing but the declared shapes depends on the size.
        n_classes: K.
    """
    # One graph per network, traced at its largest size and run at all of them.
    largest = {plan.backbone: plan for plan in sorted(plans.values(), key=lambda plan: plan.image_size)}
    sessions = {}
    with tempfile.TemporaryDirectory() as folder, progress_bar("making students", len(largest)) as bar:
        for backbone, plan in largest.items():
            path = Path(folder) / f"{backbone}.onnx"
            _write_of_any_size(plan, n_classes, path)
            sessions[backbone] = open_onnxruntime(path, threads=1)
            bar.advance()

    def timed(plan: StudentPlan) -> Timed:
        session = sessions[plan.backbone]
        return lambda images: session.run({"images": images}), plan.image_size

    return {name: timed(plan) for name, plan in plans.items()}


class _PixelsToLogits(nn.Module):
    """A student's network from uint8 pixels of its own size."""

    def __init__(self, network: TunedModule) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.logits(images.permute(0, 3, 1, 2).float())


def _write_of_any_size(plan: StudentPlan, n_classes: int, path: Path) -> None:
    """Trace at the plan's size, and free it: tracing takes many times as long as timing.

    Tracing with free sizes would not do: padding would then be computed in the graph, which the exported file
    does not do.
    """
    size = plan.image_size
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            _PixelsToLogits(_untrained(plan, n_classes)).eval(),
            (torch.zeros(2, size, size, 3, dtype=torch.uint8),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    assert program is not None  # networks of our own list
    graph = program.model_proto
    for axis, name in ((1, "H"), (2, "W")):
        graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    del graph.graph.value_info[:]
    path.write_bytes(graph.SerializeToString())


def _untrained(plan: StudentPlan, n_classes: int) -> TunedModule:
    backbone = BackboneSettings(name=plan.backbone, weights="random", image_size=plan.image_size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TunedModule(plan.settings, backbone, n_classes).eval()


def _show(
    milliseconds: dict[str, float], limit: float, of_ensemble: float | None, chosen: str | None
) -> None:
    table = Table(title=f"Students, within {limit:.3g} ms per image")
    table.add_column("student")
    table.add_column("ms / image", justify="right")
    table.add_column("")
    for name, taken in milliseconds.items():
        remark = "taken" if name == chosen else "" if taken <= limit else "too slow"
        table.add_row(name, f"{taken:.2f}", remark, style="bold" if name == chosen else None)
    console.print(table)
    ensemble = "" if of_ensemble is None else f" The ensemble takes {of_ensemble:.2f} ms."
    note(f"One thread of this machine just now, ONNX Runtime, batch size 16.{ensemble}")
