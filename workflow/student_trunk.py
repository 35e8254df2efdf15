"""Which network a student gets: the costliest of a short list that keeps to the budget on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

from contracts.errors import UsageError
from export.graph import FusedGraph, GraphMember
from export.onnx_file import write_onnx
from export.scoring.model import ScoringModel, load_model
from export.timing import milliseconds_an_image
from features.settings import TrunkSettings
from features.trunks import NoTrunk
from imagedata.decode import DecodeSettings
from supervised.tuned_module import TunedModule
from workflow.console import console, note, progress_bar
from workflow.student_plan import MEMBER, StudentPlan

CANDIDATES = (
    "small_cnn@32",
    "small_cnn@64",
    "tf_efficientnet_lite0@64",
    "tf_efficientnet_lite0@96",
    "tf_efficientnet_lite0@128",
    "tf_efficientnet_lite0@160",
    "tf_efficientnet_lite0@224",
)
"""Students to choose among; none needs a hub."""

BUDGET_SHARE = 0.25
"""The default budget as a share of what the ensemble costs."""


def choose_student(
    n_classes: int, epochs: int, budget: float | None, ensemble: Path | None
) -> tuple[StudentPlan, dict[str, Any]]:
    """Time the candidates' graphs, with random weights, and take the costliest within the budget.

    Args:
        n_classes: K.
        epochs: of the student's training.
        budget: most milliseconds an image on one thread in ONNX Runtime; None for a quarter of the
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
            "--budget MS, in milliseconds an image, or --student NAME@SIZE."
        )
    plans = {name: StudentPlan.parse(name, epochs) for name in CANDIDATES}
    models: dict[str, ScoringModel] = {} if ensemble is None else {"ensemble": load_model(ensemble)}
    with tempfile.TemporaryDirectory() as folder, progress_bar("timing students", len(plans)) as bar:
        for name, plan in plans.items():
            path = Path(folder) / f"{name}.onnx"
            write_untrained(plan, n_classes, path)
            models[name] = load_model(path)
            bar.advance()
        milliseconds = milliseconds_an_image(models)
    of_ensemble = milliseconds.pop("ensemble", None)
    limit = budget
    if limit is None:
        assert of_ensemble is not None  # without its file there is a budget
        limit = BUDGET_SHARE * of_ensemble
    chosen = costliest_within(milliseconds, limit)
    _show(milliseconds, limit, of_ensemble, chosen)
    if chosen is None:
        fastest = min(milliseconds, key=lambda name: milliseconds[name])
        raise UsageError(
            f"--distil: no student keeps to {limit:.3g} ms an image here; the fastest, {fastest}, takes "
            f"{milliseconds[fastest]:.3g} ms an image. Give a larger --budget, or name a smaller one, such "
            "as --student small_cnn_16@32."
        )
    facts = {"budget_ms": limit, "ensemble_ms": of_ensemble, "candidates": milliseconds}
    return plans[chosen], facts


def costliest_within(milliseconds: dict[str, float], limit: float) -> str | None:
    """The name with the most milliseconds that are no more than ``limit``; None where there is none."""
    fitting = [name for name, taken in milliseconds.items() if taken <= limit]
    return max(fitting, key=lambda name: milliseconds[name], default=None)


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


def write_untrained(plan: StudentPlan, n_classes: int, path: Path) -> None:
    """Write a student's graph with random weights as an exported file: it costs what a trained one does."""
    graph = FusedGraph(
        {"pixels": NoTrunk()},
        [GraphMember(MEMBER, "pixels", _untrained(plan, n_classes))],
        _NotCalibrated(n_classes),
        plan.image_size,
    )
    classes = [f"class {k}" for k in range(n_classes)]
    share = 0.5 if n_classes == 2 else [1.0 / n_classes] * n_classes
    members = [MEMBER] if n_classes == 2 else [f"{MEMBER}:{name}" for name in classes]
    metadata = {
        "classes": classes,
        "minority": classes[-1],
        "decode": DecodeSettings(plan.image_size).to_json(),
        "members": members,
        "threshold": {"rule": "none", "value": share},
        "prior": share,
    }
    write_onnx(path, graph, np.asarray(share), np.asarray(share), metadata)


def _untrained(plan: StudentPlan, n_classes: int) -> TunedModule:
    backbone = TrunkSettings(name=plan.trunk, weights="random", image_size=plan.image_size)
    return TunedModule(plan.settings, backbone, n_classes).eval()


class _NotCalibrated(nn.Module):
    """In the place of a fitted ensemble, at about its cost."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes

    def forward(self, scores: Tensor, prior: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """As :class:`ensemble.module.EnsembleModule`, of uncalibrated scores."""
        if self.n_classes == 2:
            probability = torch.sigmoid(scores[:, 0] + torch.log(prior))
            return probability, (probability >= threshold).to(torch.int64)
        probability = torch.softmax(scores + torch.log(prior), dim=1)
        return probability, (probability / threshold).argmax(dim=1)


def _show(
    milliseconds: dict[str, float], limit: float, of_ensemble: float | None, chosen: str | None
) -> None:
    table = Table(title=f"Students, within {limit:.3g} ms an image")
    table.add_column("student")
    table.add_column("ms / image", justify="right")
    table.add_column("")
    for name, taken in milliseconds.items():
        remark = "taken" if name == chosen else "" if taken <= limit else "too slow"
        table.add_row(name, f"{taken:.2f}", remark, style="bold" if name == chosen else None)
    console.print(table)
    ensemble = "" if of_ensemble is None else f" The ensemble takes {of_ensemble:.2f} ms."
    note(f"One thread of this machine just now, ONNX Runtime, 16 images a call.{ensemble}")
