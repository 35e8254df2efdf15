"""What an exported file promises in its metadata and by its graph's ports: read and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from contracts.errors import ModelError, UsageError, nearest_match
from contracts.triage import LEVELS
from export.scoring.plan import Levels
from export.scoring.runtimes.sessions import GraphFacts
from export.scoring.training_images import METADATA_KEY as TRAINING_IMAGES_KEY
from export.scoring.training_images import TrainingImages

METADATA_KEY = "outnumbered"
"""Key of the JSON document in an ONNX file's metadata that makes it one of ours."""

OLDEST_FORMAT = NEWEST_FORMAT = 2
"""Versions of that document that this code reads; format 1 had other names for what the file holds."""

_PROMISED_KEYS = ("classes", "minority", "decode", "members", "threshold", "prior")
_PROMISED_OUTPUTS = ("decision", "member_scores")
# Of these a file has at least one: files of earlier versions lack p_normal, those of runs without labelled
# minority images the probability.
_JUDGING_OUTPUTS = ("probability", "p_normal")


def read_document(path: Path, facts: GraphFacts) -> dict[str, Any]:
    """Read our JSON document from the file's metadata and check that its promised keys are there."""
    text = facts.metadata.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            f"{path} is an ONNX file but not an Outnumbered model: its metadata has no '{METADATA_KEY}' "
            "document, so classes, pixel preparation and threshold are unknown. "
            "Give a file written by 'outnumbered export'."
        )
    try:
        document = json.loads(text)
        version = int(document["format"])
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{path}: its '{METADATA_KEY}' metadata is damaged ({error}). Export it again."
        ) from error
    if version > NEWEST_FORMAT:
        raise ModelError(
            f"{path} has format {version}; this version of outnumbered reads up to {NEWEST_FORMAT}. "
            "Upgrade outnumbered, or export again with this version."
        )
    if version < OLDEST_FORMAT:
        raise ModelError(
            f"{path} has format {version}, of an earlier version of outnumbered; this version reads from "
            f"format {OLDEST_FORMAT}. Train and export again with this version."
        )
    missing = [key for key in _PROMISED_KEYS if key not in document]
    if missing:
        raise ModelError(
            f"{path}: its '{METADATA_KEY}' metadata lacks {', '.join(missing)}. Export it again."
        )
    return dict(document)


def read_training_images(path: Path, facts: GraphFacts) -> TrainingImages | None:
    """What the file says of the images it was trained on; None for a file that says nothing."""
    text = facts.metadata.get(TRAINING_IMAGES_KEY)
    if text is None:
        return None
    try:
        return TrainingImages.from_text(text)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{path}: its '{TRAINING_IMAGES_KEY}' metadata is damaged ({error}). Export it again."
        ) from error


def check_graph(path: Path, facts: GraphFacts, document: dict[str, Any]) -> None:
    """Hold the graph's inputs and outputs to the format's promise."""
    inputs = {port.name: port.type for port in facts.inputs}
    if inputs.get("images") != "tensor(uint8)" or len(inputs) != 1:
        raise ModelError(
            f"{path}: required inputs are {inputs}, not one 'images' of tensor(uint8). Export it again."
        )
    shapes = {port.name: port.shape for port in facts.outputs}
    missing = [name for name in _PROMISED_OUTPUTS if name not in shapes]
    if not shapes.keys() & set(_JUDGING_OUTPUTS):
        missing.append(" or ".join(_JUDGING_OUTPUTS))
    if missing:
        raise ModelError(f"{path}: the graph has no output {', '.join(missing)}. Export it again.")
    n_classes, rank = len(document["classes"]), len(shapes.get("probability", ()))
    if "probability" in shapes and rank != (1 if n_classes == 2 else 2):
        raise ModelError(
            f"{path}: {n_classes} classes do not go with a probability of {rank} axes. Export it again."
        )
    columns, members = shapes["member_scores"][-1], document["members"]
    if isinstance(columns, int) and columns != len(members):
        raise ModelError(
            f"{path}: {columns} member columns but {len(members)} member names. Export it again."
        )


def check_levels(path: Path, levels: Levels, has_triage: bool) -> None:
    """Refuse error rates of triage that are none, or that a file has no use for.

    Raises:
        UsageError: naming the value and its bounds, or that the file has no triage.
    """
    for name, rate in (levels or {}).items():
        if name not in LEVELS:
            raise UsageError(
                f"'{name}' is no error rate of triage.{nearest_match(name, LEVELS)} "
                f"Use {' or '.join(LEVELS)}."
            )
        if not has_triage:
            raise UsageError(
                f"{path}: {name} {rate:g} was given, but this file has no triage. It takes labelled minority "
                "images and a file of this version: give 'ensemble' again, or leave it out."
            )
        if not 0.0 <= rate <= 1.0:
            raise UsageError(f"{name} is {rate:g}; it is a share of images, from 0 to 1.")
