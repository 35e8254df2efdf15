"""Which versions made a run, its file and its report."""

from __future__ import annotations

import platform
import tomllib
from importlib import metadata
from pathlib import Path

OURS = "outnumbered"

# What decides numbers: whoever has other versions of the rest gets the same.
_PACKAGES = (
    "numpy",
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "scikit-learn",
    "scipy",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "pillow",
)

_ROOT = Path(__file__).parents[2]


def versions() -> dict[str, str]:
    """Python, Outnumbered and the packages that decide numbers → version."""
    found = {OURS: own_version(), "python": platform.python_version()}
    return found | {package: version_of(package) or "not installed" for package in _PACKAGES}


def version_of(package: str) -> str | None:
    """Of an installed package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def own_version() -> str:
    """Of the installed package, or of the checkout that is run as it is."""
    installed = version_of(OURS)
    if installed is not None:
        return installed
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["version"])
