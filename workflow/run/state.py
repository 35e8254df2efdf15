"""What a run is finished with: the key of its ensemble, and the document that was written last."""

from __future__ import annotations

from typing import Any

from contracts.files import digest_of, read_json, sha256_of_file
from workflow.run.added import AddedRows
from workflow.run.fits import Fit
from workflow.settings.config import RunConfig

# Raised when the fitting or the measuring changes, so that finished ensembles are fitted anew.
_ENSEMBLE_VERSION = 1


def ensemble_key(config: RunConfig, fits: list[Fit]) -> str:
    """Digest of everything that the ensemble depends on."""
    recipe = config.recipe
    # The first repeat makes the same ensemble whether or not there are more.
    selected = [recipe.select, recipe.select_by] if recipe.select != "first" and recipe.repeats > 1 else []
    added = AddedRows.read(config.folder).digest
    return digest_of(
        [
            _ENSEMBLE_VERSION,
            [fit.key for fit in fits],
            recipe.threshold,
            recipe.bootstrap,
            config.spec.deployment_shares or config.spec.deployment_prior,
            config.seed,
            *selected,
            # Nothing where no update was made, so that keys are those of before there could be any.
            *([{"added": added}] if added else []),
        ]
    )


def finished_document(config: RunConfig, key: str) -> dict[str, Any] | None:
    """The document of an ensemble that is fitted, measured and, where it can be, exported; or None."""
    path, model = config.folder / "metrics.json", config.folder / "model.onnx"
    if not path.exists():
        return None
    saved = read_json(path)
    document: dict[str, Any] = saved["document"]
    if saved["key"] != key:
        return None
    if "not_exported" in document:
        return document
    if not model.exists() or saved["model_sha256"] != sha256_of_file(model):
        return None
    return document
