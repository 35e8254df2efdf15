"""The folder beside an exported file that other programs read: configuration, model card, examples.

Everything in it follows from the file's own metadata, so the folder can be made again from the file alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from contracts.files import atomic_writer
from contracts.text import printable
from contracts.triage import LEVELS
from export.scoring.model import NO_PROBABILITY, ScoringModel
from imagedata.decoding.shape import GREY, shape_sentence
from imagedata.views import MIRROR_SENTENCE

MASK = "roi.png"
"""File of the region's mask, where the file has one: white where pictures are looked at."""

_TEMPLATES = Path(__file__).parent / "templates"
_NEVER_SEEN = (("auroc", "AUROC"), ("average_precision", "average precision"), ("recall", "recall"))
_PROVENANCE = ("data", "weights", "weights_sha256", "digests", "versions")
_TRITON_TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}


def write_deploy_folder(model: ScoringModel, folder: Path) -> list[Path]:
    """Write ``config.json``, ``preprocessor_config.json``, a model card, a Triton configuration and examples.

    Args:
        model: the exported file, loaded.
        folder: made when missing; files of these names are replaced.

    Returns:
        The files.
    """
    files = {
        "config.json": _json(_config(model)),
        "preprocessor_config.json": _json(_preprocessor(model)),
        "README.md": _rendered("README.md", **_card(model)),
        "triton/outnumbered/config.pbtxt": _rendered("config.pbtxt", outputs=_triton_outputs(model)),
    }
    for name in ("score.py", "score.mjs", "Score.cs"):
        files[f"examples/{name}"] = _rendered(
            name,
            file=model.path.name,
            classes_json=json.dumps(list(model.classes)),
            judged="probability" if model.has_probability else "p_normal",
            region=model.decode.region,
            mask=MASK,
            grey=GREY,
        )
    contents = {name: text.encode() for name, text in files.items()}
    if model.decode.region is not None and model.decode.region.mask:
        contents[MASK] = model.decode.region.mask
    written = []
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(path) as handle:
            handle.write(content)
        written.append(path)
    return written


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


def _rendered(name: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, source code and protobuf text, no HTML
    )
    return environment.get_template(f"{name}.jinja").render(**values)


def _config(model: ScoringModel) -> dict[str, Any]:
    """The keys that Hugging Face's tools look for, and ours."""
    document = model.document
    return {
        "model_type": "outnumbered",
        "architectures": ["OutnumberedForImageClassification"],
        "num_labels": len(model.classes),
        "id2label": {str(index): name for index, name in enumerate(model.classes)},
        "label2id": {name: index for index, name in enumerate(model.classes)},
        "minority": model.minority,
        "image_size": model.decode.size,
        "members": list(model.members),
        "prior": document["prior"],
        "threshold": document["threshold"],
        **({"triage": {name: document["triage"][name] for name in LEVELS}} if model.has_triage else {}),
        "has_probability": model.has_probability,
        "onnx_file": model.path.name,
        "sha256": model.sha256,
        # Where it comes from, as far as it is known.
        **{key: document[key] for key in _PROVENANCE if key in document},
    }


def _preprocessor(model: ScoringModel) -> dict[str, Any]:
    """Only decoding happens outside the graph; resizing to the working size there saves memory."""
    size, region = model.decode.size, model.decode.region
    return {
        "image_processor_type": "OutnumberedImageProcessor",
        "data_format": "channels_last",
        "do_convert_rgb": True,
        "do_resize": False,
        "size": {"height": size, "width": size},
        # Pillow's BILINEAR.
        "resample": 2,
        # The graph itself scales and normalises; doing it twice would ruin every score.
        "do_rescale": False,
        "do_normalize": False,
        "window": None if model.decode.window is None else list(model.decode.window),
        # Trained on JPEGs that were reduced while they were decoded; see imagedata.decoding.decode.
        **({"scaled_jpeg": True} if model.decode.scaled else {}),
        # What becomes of pictures that are no squares; the graph does it.
        "fit": model.decode.fit,
        # Left, top, right and bottom in shares of the sides, or the mask beside this file. Whoever decodes
        # cuts pictures to it, and paints what the mask leaves out in the grey level given here.
        **({} if region is None else {"roi": list(region.box) if region.box else MASK, "roi_grey": GREY}),
    }


def _card(model: ScoringModel) -> dict[str, Any]:
    document = model.document
    metrics = document.get("metrics", {})
    intervals, titles = metrics.get("intervals", {}), document.get("metric_titles", {})
    return {
        "m": {"method": "a stacker", "calibrator": "its own", "dataset": "unnamed", "recipe": "unnamed"}
        | document,
        "data": document.get("data"),
        "weights": document.get("weights", {}),
        "weights_sha256": document.get("weights_sha256", {}),
        "digests": document.get("digests", {}),
        "versions": document.get("versions", {}),
        "file": model.path.name,
        "megabytes": model.path.stat().st_size / 1e6,
        "sha256": model.sha256,
        "has_probability": model.has_probability,
        "no_probability": NO_PROBABILITY,
        "conformal": document.get("conformal"),
        "measured": document.get("measured", "test_set"),
        "prior": _numbers(document["prior"]),
        "trained_prior": _numbers(document["trained_prior"]),
        "threshold": _numbers(document["threshold"]["value"]),
        "figures": [
            (title, metrics[name], intervals.get(name)) for name, title in titles.items() if name in metrics
        ],
        "kind": "kind" if metrics.get("kinds_are_named", True) else "cluster",
        "never_seen": [
            (title, metrics["never_seen"][name]) for name, title in _NEVER_SEEN if "never_seen" in metrics
        ],
        # Names of kinds come from folders; a bar or a new line would end the cell.
        "recall_by_kind": [
            (printable(kind).replace("|", "\\|"), found)
            for kind, found in metrics.get("recall_by_kind", {}).items()
        ],
        "stability": document.get("stability"),
        "triage": document.get("triage"),
        "in_use": document.get("in_use"),
        "seen": MIRROR_SENTENCE if document.get("views_at_scoring") == "mirror" else "",
        "region": model.decode.region,
        "fit": model.decode.fit,
        "shape": shape_sentence(model.decode.fit),
        "mask": MASK,
        "grey": GREY,
        "student": document.get("student"),
        "against": [(titles[name], found) for name, found in document.get("figures", {}).items()],
        "has_map": model.has_map,
        "maps_of": model.maps_of,
        "has_watched_features": any(port.name == "watched_features" for port in model.outputs),
    }


def _numbers(value: float | list[float] | None) -> str:
    """Four digits each, separated by commas; empty for what the file has not."""
    if value is None:
        return ""
    many = value if isinstance(value, list) else [value]
    return ", ".join(f"{number:.4g}" for number in many)


def _triton_outputs(model: ScoringModel) -> list[dict[str, str]]:
    """Outputs without the batch axis, as Triton names them; one number per image is reshaped to length 1."""
    found = []
    for output in model.outputs:
        axes = [axis if isinstance(axis, int) else -1 for axis in output.shape[1:]]
        dims = f"dims: [ {', '.join(map(str, axes))} ]" if axes else "dims: [ 1 ] reshape { shape: [ ] }"
        found.append({"name": output.name, "type": _TRITON_TYPES[output.type], "dims": dims})
    return found
