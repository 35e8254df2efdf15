"""What every report says of where it comes from: commands, settings, versions, digests, images left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from contracts.files import sha256_of_file
from reporting.content import Origin
from workflow.inventory.versions import versions
from workflow.run.prepared import PreparedData
from workflow.run.state import Run

_LISTED_IMAGES = {"broken": 5, "excluded": 5, "dropped": 1}
"""How many left-out images of each status the report names; the dropped ones all share one reason."""


def origin_of(run: Run, commands: Sequence[str], digests: Mapping[str, str]) -> Origin:
    """How to make a run and its report again.

    Args:
        run: finished.
        commands: command lines, in order.
        digests: what → digest, beside those of manifest, folds and exported file.
    """
    config = run.config
    return Origin(
        commands=commands,
        seed=config.seed,
        recipe_yaml=_yaml(config.recipe.model_dump(mode="json")),
        dataset_yaml=_yaml(config.to_json()["dataset"]),
        versions=versions(),
        digests=_digests(run, digests),
    )


def left_out_images(data: PreparedData) -> dict[str, list[tuple[str, str]]]:
    """Status → path and reason of the first few images that were left out so."""
    return {
        status: [(r.path, r.reason.rstrip(".")) for r in data.manifest.rows if r.status == status][:count]
        for status, count in _LISTED_IMAGES.items()
    }


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _digests(run: Run, others: Mapping[str, str]) -> dict[str, str]:
    digests = {"manifest": run.data.manifest.digest, "folds": run.data.folds_digest, **others}
    if run.exported is not None:
        digests["model.onnx (SHA-256)"] = sha256_of_file(run.exported)
    return digests
