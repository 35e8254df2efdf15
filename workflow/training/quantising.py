"""Backbones in int8: quantised before anything is fitted, so that nothing is left to disagree.

A file that is quantised after training disagrees with its members, which were fitted on other features. Here
the backbone's own graph is quantised first. All features are computed by exactly that graph, all members,
stacker and calibrator are fitted on them, and the exported file contains the same nodes.

The quantiser sees training images of the majority alone, drawn by a hash of their bytes.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contracts.files import write_json
from contracts.rows import ImageArray
from features.settings import BackboneSettings
from imagedata.manifest_row import ManifestRow
from reporting.terminal import console, note
from workflow.run.prepared import PreparedData
from workflow.settings.config import RunConfig
from workflow.settings.quantised import FILE, key_of, read_quantised, with_int8_graph

if TYPE_CHECKING:
    from features.backbones import Backbone

CALIBRATION_IMAGES = 128
"""Training images at most whose activations set the ranges."""

WORTH_IT = {"here": 1.1, "vnni": 1.0}
"""Stated deployment → how many times as fast int8 has to be on this machine where the recipe leaves the
precision to us. Where int8 instructions will be at hand it must not be slower here, as training uses it, too.
"""

_NOT_AS_FITTED = {
    "openvino": "OpenVINO rounds int8 products otherwise than ONNX Runtime, in which features are computed",
    "gpu": "a GPU has no int8 form of these convolutions in ONNX Runtime",
}
"""Stated deployment → why ``precision: auto`` takes float32 without a look."""

_LEAST_CALIBRATION_IMAGES = 8
# Of larger images fewer are shown: these many pixels are 128 images of 448 px.
_CALIBRATION_PIXELS = CALIBRATION_IMAGES * 448**2
_TIMED, _ROUNDS = 8, 5


def quantise_where_asked(config: RunConfig, data: PreparedData) -> RunConfig:
    """The configuration with a quantised graph for every backbone that asks for one; made where none is kept.

    A graph that is kept stays as long as the images that it was calibrated on are training images, so that an
    update with more images computes no feature again.

    Raises:
        ModelError: a backbone has no convolution to quantise, or the quantiser fails on it.
    """
    asking = [plan for plan in config.members if plan.backbone.precision != "fp32"]
    if not asking:
        return config
    from workflow.run.features import backbones_read_by

    # Members of pixels alone compute no feature, so that nothing of theirs is quantised.
    asked = backbones_read_by(asking)
    kept = read_quantised(config.folder)
    here = {row.sha256 for row in data.train}
    entries: dict[str, dict[str, Any]] = {}
    for backbone in sorted(asked, key=lambda each: str(each.identity())):
        key = key_of(backbone, config.of_pixels)
        entry = kept.get(key)
        if entry is None or not here.issuperset(entry["images"]) or not _is_there(config, backbone, entry):
            entry = _quantised(config, data, backbone)
        entries[key] = entry
        note(entry["sentence"])
    write_json(config.folder / FILE, {"backbones": entries})
    return config.with_backbones(lambda each: with_int8_graph(each, config.of_pixels, entries))


def calibration_rows(data: PreparedData, most: int) -> list[ManifestRow]:
    """Rows of the majority, or all where nothing is labelled, in the order of a hash of their bytes."""
    minority = data.manifest.class_names[-1]
    rows = [row for row in data.own_train if data.regime == "unlabelled" or row.label != minority]
    # By hash rather than by name, so that renaming files changes no graph.
    in_order = sorted(rows, key=lambda row: hashlib.sha256(f"int8|{row.sha256}".encode()).hexdigest())
    distinct = list({row.sha256: row for row in in_order}.values())
    return distinct[:most]


def _is_there(config: RunConfig, backbone: BackboneSettings, entry: dict[str, Any]) -> bool:
    """Whether the graph of an entry lies where features of it are computed; True where none was taken."""
    if entry["graph"] is None:
        return True
    from features.backbones import Backbone
    from features.graphs.backbone_graph import has_int8_graph
    from workflow.run.features import feature_folder

    settings = backbone.model_copy(update={"int8_graph": entry["graph"]})
    return has_int8_graph(settings, feature_folder(config, Backbone(settings)))


def _quantised(config: RunConfig, data: PreparedData, settings: BackboneSettings) -> dict[str, Any]:
    """Quantise one backbone, and keep its graph beside its features."""
    from features.backbones import Backbone
    from features.graphs.backbone_graph import digest_of_graph, graph_path, keep_int8_graph
    from features.rows import read_pixels
    from workflow.run.features import feature_folder

    if settings.precision == "auto" and settings.deployment in _NOT_AS_FITTED:
        return {
            "taken": "fp32",
            "graph": None,
            "images": [],
            "convolutions": 0,
            "ms": {},
            "sentence": f"Backbone {settings.name}: float32 is taken for deployment: {settings.deployment}, "
            f"as {_NOT_AS_FITTED[settings.deployment]}.",
        }
    size = settings.working_size
    most = max(_LEAST_CALIBRATION_IMAGES, min(CALIBRATION_IMAGES, _CALIBRATION_PIXELS // size**2))
    rows = calibration_rows(data, most)
    plain = Backbone(settings.in_float32)
    with console.status(f"quantising backbone {settings.name}", spinner="dots"):
        source = graph_path(plain, feature_folder(config, plain))
        images = read_pixels([data.file_of(row) for row in rows], config.decode)
        graph, convolutions = _int8_bytes(source, images)
        settings = settings.model_copy(update={"int8_graph": digest_of_graph(graph)})
        backbone = Backbone(settings)
        keep_int8_graph(graph, feature_folder(config, backbone))
        ms = _milliseconds(config, {"fp32": plain, "int8": backbone}, images[:_TIMED])
    ratio = ms["fp32"] / ms["int8"]
    is_asked = settings.precision == "int8"
    least = 0.0 if is_asked else WORTH_IT[settings.deployment]
    taken = ratio >= least
    why = (
        "as the recipe asks"
        if is_asked
        else f"which has to be {least:g} times as fast for precision: auto, deployment: {settings.deployment}"
    )
    sentence = (
        f"Backbone {settings.name}: {'int8' if taken else 'float32'} is taken. {convolutions} convolutions "
        f"were quantised on {len(rows)} training images; int8 is {ratio:.2f} times as fast as float32 on one "
        f"thread of this machine ({ms['int8']:.1f} against {ms['fp32']:.1f} ms per image), {why}."
    )
    return {
        "taken": "int8" if taken else "fp32",
        "graph": settings.int8_graph if taken else None,
        "images": [row.sha256 for row in rows],
        "convolutions": convolutions,
        "ms": {name: round(value, 2) for name, value in ms.items()},
        "sentence": sentence,
    }


def _int8_bytes(source: Path, images: ImageArray) -> tuple[bytes, int]:
    """The quantised form of a kept graph, and how many of its convolutions are int8."""
    import onnx

    from contracts.backbone_graph import PIXELS
    from contracts.errors import ModelError
    from features.graphs.quantised import quantise, quantised_nodes

    nodes = quantised_nodes(onnx.load(str(source)).graph.node)
    if not nodes:
        raise ModelError(
            f"{source}: this backbone has no convolution but its first, so there is nothing to compute in "
            "int8. Use -o backbone.precision=fp32."
        )
    pixels = images.transpose(0, 3, 1, 2).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        count = quantise(source, target, nodes, {PIXELS: pixels})
        return target.read_bytes(), count


def _milliseconds(config: RunConfig, backbones: dict[str, Backbone], images: ImageArray) -> dict[str, float]:
    """Milliseconds per image of each backbone on one thread, as scoring uses it; rounds are interleaved."""
    from features.graphs.runner import backbone_runner
    from workflow.run.features import feature_folder

    runs = {
        name: backbone_runner(backbone, feature_folder(config, backbone), "cpu", threads=1)
        for name, backbone in backbones.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(1 + _ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            run(images)
            seconds[name].append(time.perf_counter() - started)
    # The first call also allocates.
    return {name: 1000.0 * statistics.median(each[1:]) / len(images) for name, each in seconds.items()}
