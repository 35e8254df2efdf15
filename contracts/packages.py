"""Packages that scoring does without: where one is missing, which extra brings it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from contracts.errors import UsageError

TRAINING = (
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "sklearn",
    "scipy",
    "imblearn",
    "onnx",
    "onnxscript",
    "jinja2",
    "matplotlib",
    "pandas",
    "safetensors",
    "threadpoolctl",
)
"""Modules of the extra ``train``."""


@contextmanager
def missing_training_as_error() -> Iterator[None]:
    """Turn the failed import of a package of training into a sentence; also usable as a decorator.

    Raises:
        UsageError: this installation can score and not train.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in TRAINING:
            raise
        raise UsageError(
            f"{package} is not installed here: this installation scores, but does not train, explain or "
            "export. Give: pip install 'outnumbered[train]', or make setup in a checkout."
        ) from error
