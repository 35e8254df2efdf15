"""``inspect``: what one exported file holds, costs and promises."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from rich.table import Table

from contracts.errors import UsageError
from export.scoring.model import NO_PROBABILITY
from imagedata.decoding.region import Region
from imagedata.decoding.shape import shape_sentence
from imagedata.views import MIRROR_SENTENCE
from reporting.terminal import console, note


def inspect_model(path: Path) -> dict[str, Any]:
    """Print parts, arithmetic, time and promises of a file.

    Args:
        path: of an ONNX file that ``export`` or ``ensemble`` wrote.

    Returns:
        See :func:`export.graph_parts.graph_document`.

    Raises:
        UsageError: the ``onnx`` package is missing.
        ModelError: no file of ours.
    """
    if importlib.util.find_spec("onnx") is None:
        raise UsageError("inspect: reading a graph's parts needs onnx. Give: pip install onnx")
    from export.graph_parts import graph_document, inspect_graph
    from export.scoring import load_model
    from export.scoring.file_checks import checked_here, sentence_of_checks

    model = load_model(path)
    with console.status("timing the parts", spinner="dots"):
        parts = inspect_graph(model)
    document = {**graph_document(model, parts), **checked_here(model)}
    table = Table(title=f"{path}: {document['bytes'] / 1e6:.1f} MB")
    table.add_column("part")
    for heading in ("nodes", "MB", "GFLOP / image", "ms / image", "share"):
        table.add_column(heading, justify="right")
    for part in parts:
        share = part.ms / document["ms"] if document["ms"] else 0.0
        table.add_row(
            part.name,
            str(part.nodes),
            f"{part.weight_bytes / 1e6:.2f}",
            f"{part.gflop:.4f}",
            f"{part.ms:.2f}",
            f"{share:.0%}",
        )
    table.add_section()
    table.add_row("all", "", "", f"{document['gflop']:.4f}", f"{document['ms']:.2f}", "")
    console.print(table)
    note("Milliseconds are of one thread of this machine just now, at batch 8, maps included.")
    for sentence in (*_promises(document["metadata"]), *_maps(document["maps"])):
        note(sentence)
    note(f"sha256 {document['sha256']}")
    note(sentence_of_checks(document))
    return document


def _maps(maps: dict[str, tuple[str, ...]]) -> list[str]:
    """Which output is the map of which members."""
    if not maps:
        return []
    together, *each = maps
    members = ", ".join(maps[together])
    if not each:
        return [f"Map of {members}: {together}."]
    of_all = f"{members} together" if len(maps[together]) > 1 else members
    return [
        f"Maps: {together} ({of_all}; 0 is a typical patch of a normal image, 1 one that one in 200 lies "
        f"above), {', '.join(each)}."
    ]


def _promises(metadata: dict[str, Any]) -> list[str]:
    """Sentences about what the file's metadata says."""
    decode, threshold = metadata["decode"], metadata["threshold"]
    classes = ", ".join(metadata["classes"])
    sentences = [
        f"Trained on {metadata.get('dataset', 'an unnamed data set')} with recipe "
        f"{metadata.get('recipe', 'unnamed')}. Classes: {classes}; minority: {metadata['minority']}.",
        f"Images of any size, working size {decode['size']} px. {_decides(metadata, threshold)}",
    ]
    if metadata.get("int8_backbones"):
        sentences.append(
            f"Backbone {', '.join(metadata['int8_backbones'])} computes in int8, and did so in training: all "
            "figures are of it."
        )
    if "conformal" in metadata:
        sentences.append(metadata["conformal"]["sentence"])
        sentences += _triage(metadata)
    if decode.get("scaled"):
        sentences.append(
            f"JPEGs of at least {2 * int(decode['size'])} px on both sides are reduced while they are "
            "decoded (scaled_jpeg), in scoring as in training: whoever decodes for this file in another way "
            "feeds it other pixels."
        )
    # Of files that name neither, nothing was said before there were such keys either.
    if "fit" in decode:
        sentences.append(shape_sentence(decode["fit"]))
    if "region" in decode:
        sentences.append(
            f"{Region.from_json(decode['region']).sentence} Files are cut to it when they are decoded; "
            "arrays are to be cut by whoever gives them, as Scorer.pixels_of does."
        )
    if metadata.get("views_at_scoring") == "mirror":
        sentences.append(f"{MIRROR_SENTENCE} The graph does it; give it each image once.")
    if "student" in metadata:
        metric, of_metric = next(iter(metadata["figures"].items()))
        sentences.append(
            f"A student, {metadata['student']['name']}, of the run's ensemble: {metric} on test images "
            f"{of_metric['student']:.4f}, the ensemble's {of_metric['ensemble']:.4f}."
        )
    if "method" in metadata:
        calibrator = metadata.get("calibrator")
        calibrated = f", calibrated by {calibrator}" if calibrator else ""
        sentences.append(f"Members are combined by {metadata['method']}{calibrated}.")
    if "digests" in metadata:
        digests = ", ".join(f"{name} {digest[:12]}" for name, digest in metadata["digests"].items())
        sentences.append(f"Made from {digests}.")
    for backbone, licence in metadata.get("weights", {}).items():
        digest = metadata.get("weights_sha256", {}).get(backbone)
        sentences.append(f"Weights of {backbone}: {licence}{f', sha256 {digest[:12]}' if digest else ''}.")
    if "data" in metadata:
        data = metadata["data"]
        sentences.append(f"Data: {data['source']}; licence: {data['licence']}.")
    if "versions" in metadata:
        made_by = ", ".join(f"{name} {version}" for name, version in metadata["versions"].items())
        sentences.append(f"Made by {made_by}.")
    return sentences


def _triage(metadata: dict[str, Any]) -> list[str]:
    """What triage promises, or why there is none; nothing of files that were made before there was any."""
    if metadata["prior"] is None:
        return [
            "No triage: PASS and FAIL take labelled images of both classes. Until there are some, the "
            "decision says what looks normal and what does not."
        ]
    if "triage" not in metadata:
        return []
    triage = metadata["triage"]
    return [triage["minority"]["sentence"], f"{triage['sentence']} Both rates can be overridden."]


def _decides(metadata: dict[str, Any], threshold: dict[str, Any]) -> str:
    """Prior and threshold, or the share of false alarms of a file without a probability."""
    if metadata["prior"] is None:
        return (
            f"{NO_PROBABILITY} {metadata['minority']} is decided where p_normal is at most "
            f"{_numbers(threshold['value'])}, by rule {threshold['rule']}; it can be overridden."
        )
    trained = f" ({_numbers(metadata['trained_prior'])} in training)" if "trained_prior" in metadata else ""
    return (
        f"Prior {_numbers(metadata['prior'])}{trained}; threshold {_numbers(threshold['value'])} by rule "
        f"{threshold['rule']}; both can be overridden."
    )


def _numbers(value: Any) -> str:
    many = value if isinstance(value, list) else [value]
    return ", ".join(f"{number:.4g}" for number in many)
