"""Outnumbered from Python: the only names that are promised to callers.

Three lines from a folder of images to a calibrated ensemble and its file::

    from outnumbered import Ensemble

    ensemble = Ensemble.fit("parts", minority="scratched")
    ensemble.export("parts.onnx")

and two that score with that file, on a machine without torch::

    from outnumbered import Scorer

    results = list(Scorer("parts.onnx").score_files(["new/1.png", "new/2.png"]))

===================  ==================================================================================
``Ensemble``         a run: trained, measured, scored with, explained, updated and exported
``Scorer``           an exported file alone; needs the base installation only
``ImageScore``       what a ``Scorer`` says of one image
===================  ==================================================================================

Every mistake that a caller can act on is an ``OutnumberedError``::

    OutnumberedError
    ├── UsageError       asked for something that does not exist or cannot be
    ├── DataError        images, lists or folders do not allow what was asked
    │   └── ImageError   one image cannot be used
    └── ModelError       a run, a member or a file is missing, wrong or failed its gate

Importing this package loads no torch and takes no time worth naming: a name is imported when it is first
used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contracts.errors import DataError, ImageError, ModelError, OutnumberedError, UsageError
    from export.scorer import ImageScore, Scorer
    from outnumbered.ensemble import Ensemble

__all__ = [
    "DataError",
    "Ensemble",
    "ImageError",
    "ImageScore",
    "ModelError",
    "OutnumberedError",
    "Scorer",
    "UsageError",
]

_PLACE_OF = {"Ensemble": "outnumbered.ensemble", "Scorer": "export.scorer", "ImageScore": "export.scorer"}
_ELSE = "contracts.errors"


def __getattr__(name: str) -> Any:
    """Import a promised name when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'outnumbered' has no attribute '{name}'; it has {', '.join(__all__)}")
    found = getattr(importlib.import_module(_PLACE_OF.get(name, _ELSE)), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
