"""``export``: the whole trained system as one ONNX file, kept only if it repeats the run's numbers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contracts.errors import ModelError, NotExportableError, UsageError
from contracts.files import digest_of, sha256_of_file, write_json
from ensemble.triage import triage_sentence
from evaluation.metrics import metrics_for
from export.scoring.training_images import TrainingImages
from export.scoring.watch.reference import METADATA_KEY as WATCH_KEY
from oneclass.from_anomalib.catalogue import PREFIX as ANOMALIB_PREFIX
from reporting.terminal import console, note
from workflow.ensembling.gate_images import GateImages, gate_images
from workflow.ensembling.trained_system import TrainedSystem, final_members
from workflow.ensembling.watch_reference import watch_reference
from workflow.ensembling.watched_features import WatchedFeatures, watched_features, watched_of_gate
from workflow.inventory.versions import versions
from workflow.run.fits import usual_map_values
from workflow.run.prepared import PreparedData
from workflow.run.state import Run
from workflow.run.summary import corrections_used

if TYPE_CHECKING:
    from export.parity import Expected, ParityReport

_PARITY_IMAGES = 56
"""Images that the parity gate compares; a multiple of 1, 2 and 7, and as many of each class."""


def check_output(output: Path | None, name: str) -> None:
    """Refuse a folder where a file is to be named.

    Raises:
        UsageError: it is one; proposes ``name`` in it.
    """
    if output is not None and (output.is_dir() or not output.name):
        raise UsageError(f"--output {output}: that is a folder. Name the file, such as {output / name}.")


def export_model(run: Run, output: Path | None = None) -> dict[str, Any]:
    """Write the file under a provisional name, put it through the gate, then give it its name.

    Args:
        run: its ensemble is fitted.
        output: target; the run folder's ``model.onnx`` when not given.

    Returns:
        The document of ``export --json``, which ``export.json`` keeps.

    Raises:
        NotExportableError: a member cannot be traced with any batch size.
        ModelError: the file cannot be written, or fails its gate.
    """
    from export.deploy import write_deploy_folder
    from export.scoring import load_model

    config, target = run.config, output or run.model
    # An ensemble that was interrupted before it was measured has figures already, and can be exported.
    parity, what = write_gated(run, target, run.document.get("stability"))
    deployed = write_deploy_folder(load_model(target), target.parent / "deploy")
    size = target.stat().st_size
    document = {
        "dataset": config.spec.name,
        "recipe": config.recipe.name,
        "model": str(target),
        "bytes": size,
        "sha256": sha256_of_file(target),
        "parity": {**dataclasses.asdict(parity), "compared_on": what},
    }
    write_json(config.folder / "export.json", document)
    note(f"Exported {target} ({size / 1e6:.1f} MB). {parity_sentence(parity, what)}")
    note(f"Model card, configurations and examples: {deployed[0].parent}")
    return document


def parity_sentence(parity: ParityReport, what: str) -> str:
    """What the gate saw, for people."""
    difference = parity.max_probability_difference
    figure = (
        "p_normal is the same but for rounding"
        if difference is None
        else f"probabilities differ by at most {difference:.1e}"
    )
    return f"Parity on {parity.images} {what} at batches 1, 2 and 7: {figure}."


def write_gated(
    system: TrainedSystem, target: Path, stability: dict[str, Any] | None = None
) -> tuple[ParityReport, str]:
    """Write a file that repeats the trained system's numbers, or none.

    The numbers are those of test images. Where every image was needed for training, they are those that the
    trained system gives to training images that are mirrored or upside down; see
    :mod:`workflow.ensembling.gate_images`.

    Args:
        system: trained.
        target: the file.
        stability: what :func:`workflow.ensembling.stability.measure_stability` found, if it was measured.

    Returns:
        What the parity gate found, and on which images.

    Raises:
        As :func:`export_model`.
    """
    # torch and the exporter are imported here, when there is something to export.
    from export.onnx_file import add_metadata, write_onnx
    from export.parity import check_parity
    from export.scoring import load_model
    from export.scoring.probe import PROBE_KEY, probe_of
    from features.backbones import Backbone
    from features.graphs.backbone_graph import backbone_graph
    from workflow.run.features import feature_folder

    config, fitted = system.config, system.fitted
    # A hidden name in the same folder: the final rename is atomic, and nobody scores an unchecked file.
    provisional = target.with_name(f".{target.name}.unchecked")
    watched = watched_features(system)
    with console.status("loading members", spinner="dots"):
        graph = fused_graph(system, watched)
        metadata = _metadata(system) | _facts_beside(system, graph.backbone_keys, stability, watched)
    gate = gate_images(system, _PARITY_IMAGES)
    try:
        with console.status("exporting the graph", spinner="dots"):
            write_onnx(
                provisional,
                graph,
                None if fitted.deployment_prior is None else np.asarray(fitted.deployment_prior),
                np.asarray(fitted.threshold),
                metadata,
                {
                    key: backbone_graph(backbone, feature_folder(config, backbone))
                    for key, backbone in zip(graph.backbone_keys, graph.backbones, strict=True)
                    if isinstance(backbone, Backbone)
                },
                _training_images(system.data),
                None if fitted.levels is None else fitted.levels.rates,
            )
        with console.status("parity gate", spinner="dots"):
            parity = check_parity(provisional, gate.images, _expected(system, gate, watched))
            add_metadata(provisional, {PROBE_KEY: probe_of(load_model(provisional), gate.spreads)})
        provisional.replace(target)
    except ModelError as error:
        _blame_members(system, error)
        raise
    finally:
        # After success there is nothing left under this name.
        provisional.unlink(missing_ok=True)
    return parity, gate.what


def _facts_beside(
    system: TrainedSystem,
    backbones: Sequence[str],
    stability: dict[str, Any] | None,
    watched: WatchedFeatures | None,
) -> dict[str, Any]:
    """What the file says of maps, backbones, use and stability; see :func:`_metadata` for the rest."""
    settings = [json.loads(key) for key in backbones]
    facts: dict[str, Any] = {
        "maps": {
            name: {"half": low, "most": high}
            for name, (low, high) in usual_map_values(system.results, system.repeats).items()
        },
        **_weights(system),
        "backbones": [each["name"] for each in settings],
        "int8_backbones": [each["name"] for each in settings if each.get("int8_graph")],
        **_in_use(system),
    }
    watch = watch_reference(system, watched)
    if watch is not None:
        facts[WATCH_KEY] = watch.to_json()
    if stability is not None:
        # Without the names of images, which the file's users have no business with.
        facts["stability"] = {key: value for key, value in stability.items() if key != "moved"}
    if system.data.n_repeats > 1:
        facts["repeats"] = list(system.repeats)
    return facts


def _in_use(system: TrainedSystem) -> dict[str, Any]:
    """What triage promises and what it and the decisions mean in use; a student's are not measured."""
    fitted = system.fitted
    if fitted.levels is None or fitted.minority is None:
        return {}
    document = system.document if isinstance(system, Run) else {}
    measured = document.get("triage", {})
    triage = {
        **fitted.levels.to_json(),
        "sentence": triage_sentence(fitted.levels, fitted.class_names[-1]),
        "minority": {
            "n": fitted.minority.n,
            "images": fitted.minority.images,
            "least": fitted.minority.least,
            "sentence": fitted.minority.sentence,
        },
        "figures": {key: value for key, value in measured.items() if key not in ("levels", "curve")},
    }
    return {"triage": triage, **({"in_use": document["in_use"]} if document else {})}


def _blame_members(system: TrainedSystem, error: ModelError) -> None:
    """Name the members from elsewhere that cannot be exported; returns where it is not their doing.

    Raises:
        NotExportableError: it is.
    """
    from export.member_check import reasons_not_to_export

    config = system.config
    foreign = {plan.name for plan in config.members if plan.type.startswith(ANOMALIB_PREFIX)}
    backbones, members = _graph_parts(system)
    # Our own members are written to be traced; only those from elsewhere are worth minutes of trying.
    suspects = [member for member in members if member.name in foreign]
    with console.status("looking for the member that cannot be exported", spinner="dots"):
        reasons = reasons_not_to_export(backbones, suspects, config.recipe.backbone.working_size)
    if reasons:
        found = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
        without = " ".join(f"-o members.{name}=false" for name in reasons)
        raise NotExportableError(
            f"{config.folder}: no ONNX file, because of {found}. The figures are with it. For a file, fit "
            f"the ensemble without it, which takes seconds: {config.options.command('ensemble')} {without}"
        ) from error


def fused_graph(system: TrainedSystem, watched: WatchedFeatures | None = None) -> Any:
    """The whole trained system as one torch module.

    Args:
        system: trained.
        watched: features that the graph is to give for the watch; None for none.
    """
    import torch

    from ensemble.module import EnsembleModule
    from export.graph import FusedGraph

    backbones, members = _graph_parts(system)
    decode = system.config.decode
    graph = FusedGraph(
        backbones,
        members,
        EnsembleModule(system.fitted),
        decode.size,
        decode.fit,
        system.config.recipe.views_at_scoring,
        None if watched is None else watched.in_graph(),
    )
    if decode.region is not None:
        # Of the maps' sizes, which an image tells.
        with torch.inference_mode():
            _, maps = graph.eval().member_scores(torch.zeros(1, decode.size, decode.size, 3).byte())
        for side in {each.shape[-1] for each in maps if each is not None}:
            seen = decode.region.seen(side, decode.fit)
            if seen is not None:
                graph.shown.show(torch.from_numpy(seen))
    return graph


def _graph_parts(system: TrainedSystem) -> tuple[dict[str, Any], list[Any]]:
    """Backbone modules by key, and the graph's members in the order of the fitted columns."""
    from export.graph import GraphMember, MeanOfMembers
    from features.backbones import Backbone, NoBackbone

    members = []
    backbones: dict[str, Any] = {}
    usual = usual_map_values(system.results, system.repeats)
    for name, (fit, of_repeats) in final_members(system).items():
        modules = [member.to_module() for member in of_repeats]
        settings = fit.member.backbone
        key = settings.model_dump_json()
        reads_features = of_repeats[0].needs != frozenset({"images"})
        # A stand-in gives way to the real backbone as soon as some member reads its features.
        if key not in backbones or (reads_features and isinstance(backbones[key], NoBackbone)):
            backbones[key] = Backbone(settings) if reads_features else NoBackbone()
        module = modules[0] if len(modules) == 1 else MeanOfMembers(modules)
        members.append(GraphMember(name, key, module, usual.get(name)))
    return backbones, members


def _weights(system: TrainedSystem) -> dict[str, Any]:
    """Licence and source, and digest, of the weights that the file's members began with, by backbone."""
    from features.weights import weights_licence, weights_sha256

    licences, digests = {}, {}
    for fit, of_repeats in final_members(system).values():
        member, backbone = of_repeats[0], fit.member.backbone
        # Whole networks are trained on from a backbone's weights; one-class members of pixels have their own.
        starts_from_it = member.needs != frozenset({"images"}) or member.kind == "supervised"
        if starts_from_it and backbone.name not in licences:
            licences[backbone.name] = weights_licence(backbone.name, backbone.weights_source)
            digests[backbone.name] = weights_sha256(backbone.name, backbone.weights_source)
    return {"weights": licences, "weights_sha256": digests}


def _training_images(data: PreparedData) -> TrainingImages:
    """What the file will say of the images it was made from: feedback images are known to it, too."""
    rows = [*data.train, *data.added]
    try:
        sizes = [data.file_of(row).stat().st_size for row in rows]
    except OSError:  # a training image is gone, which no export depends on
        sizes = []
    return TrainingImages.of((row.sha256 for row in rows), sizes)


def _expected(system: TrainedSystem, gate: GateImages, watched: WatchedFeatures | None) -> Expected:
    """What the file has to repeat."""
    from export.parity import FUSED_TOLERANCE, Expected

    fitted = system.fitted
    scores = gate.member_scores
    return Expected(
        scores,
        fitted.predict(scores) if fitted.has_probability else None,
        fitted.p_normal_bounds(scores, FUSED_TOLERANCE),
        gate.spreads,
        fitted.p_minority_bounds(scores, FUSED_TOLERANCE) if fitted.has_probability else None,
        None if fitted.levels is None else fitted.levels.rates,
        None if watched is None else watched_of_gate(system, watched, gate),
    )


def _metadata(system: TrainedSystem) -> dict[str, Any]:
    """What the file says about itself; see :mod:`export.scoring.model` for the reader."""
    config, fitted = system.config, system.fitted
    data = system.data.of_repeat(system.repeats[0])
    corrections = corrections_used(config, data)
    # A student's table has no other row than its own; without labels nothing is measured.
    rows = {row["name"]: row for row in system.rows}
    of_model = rows.get("ensemble") or next(iter(rows.values()), {})
    return {
        "dataset": config.spec.name,
        "recipe": config.recipe.name,
        "classes": list(fitted.class_names),
        "minority": fitted.class_names[-1],
        "decode": config.decode.to_json(),
        **config.recipe.said_of_views_at_scoring,
        "members": [column.name for column in fitted.columns],
        "method": fitted.method,
        "calibrator": type(fitted.calibrator).__name__ if fitted.has_probability else None,
        "threshold": {"rule": fitted.threshold_rule, "value": fitted.threshold},
        "prior": fitted.deployment_prior,
        "trained_prior": fitted.trained_prior,
        "regime": data.regime,
        "conformal": {
            "n": fitted.normal.n,
            "images": fitted.normal.images,
            "least": fitted.normal.least,
            "sentence": fitted.normal.sentence,
        },
        "metrics": {key: value for key, value in of_model.items() if key != "minus_baseline"},
        "measured": "test_set" if len(system.test.labels) else "cross_validation",
        # The model card is written from the file alone, by a room that knows no metrics.
        "metric_titles": {
            name: metric.title_with_direction for name, metric in metrics_for(fitted.n_classes).items()
        },
        "data": {
            "title": config.spec.title,
            "source": config.spec.source or "the user's own",
            "licence": config.spec.licence or "not stated",
            "train": data.counts(),
            "test": data.manifest.counts("test"),
            **({"corrected": corrections} if corrections else {}),
        },
        "digests": {
            "manifest": data.manifest.digest,
            "folds": data.folds_digest,
            "settings": digest_of(config.to_json()),
            **({"added": data.added_digest} if data.added else {}),
        },
        "versions": versions(),
        "ensemble": fitted.to_json(),
    }
