"""Pictures for the report: the most confident errors and hits, with maps of the evidence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from contracts.rows import FloatArray, ImageArray
from evaluation.examples import confident_examples
from evaluation.rows import class_probabilities
from features.rows import read_pixels
from reporting.content import Decided, Gallery, Picture
from workflow.ensembling.compared_run import ComparedRun
from workflow.ensembling.measuring import ENSEMBLE_ROW
from workflow.run.fits import FINAL
from workflow.settings.registry import build_member


def galleries(run: ComparedRun) -> tuple[list[Gallery], str]:
    """Choose pictures by the ensemble's probabilities.

    Returns:
        Four galleries, and where their maps come from; an empty text where no member has a map.

    Raises:
        DataError: an image has gone or changed since training.
    """
    ensemble, labels, names = run.fitted_rows[ENSEMBLE_ROW], run.judged.labels, run.judged.class_names
    p = class_probabilities(ensemble.predict(run.judged.scores))
    decision = ensemble.decide(run.judged.scores)
    chosen = confident_examples(p, decision, labels)
    # An image may be in several galleries; it is read and mapped once.
    rows = np.unique(np.concatenate(list(chosen.values())))
    pixels = read_pixels([run.data.file_of(run.data.judged[i]) for i in rows], run.config.decode)
    maps, source = _maps(run, rows, pixels)
    place_of = {int(row): place for place, row in enumerate(rows)}
    words = _words(names[-1])
    shown = []
    for kind, positions in chosen.items():
        pictures = [
            Picture(
                path=str(run.judged.row_ids[i]),
                p_minority=float(p[i, -1]),
                pixels=pixels[place_of[int(i)]],
                heat=None if maps is None else maps[place_of[int(i)]],
                # Of two classes the minority's probability says it all.
                decided=_decided(p[i], int(decision[i]), int(labels[i]), names) if len(names) > 2 else None,
            )
            for i in positions
        ]
        shown.append(Gallery(*words[kind], pictures))
    return shown, source


def _words(minority: str) -> dict[str, tuple[str, str]]:
    """Kind of :func:`evaluation.examples.confident_examples` → title and sentence of its gallery."""
    return {
        "false alarms": (
            "Most confident false alarms",
            f"Not labelled “{minority}”, but given the highest probabilities of it.",
        ),
        "wrong": (
            "Most confident errors",
            "Decided as another class than their label says, with the highest probabilities of that class.",
        ),
        "missed": (
            f"Most confident misses: {minority}",
            f"Labelled “{minority}” and decided otherwise, with the lowest probabilities of it.",
        ),
        "found": (
            f"Most confident hits: {minority}",
            f"Correctly decided as “{minority}”, with the highest probabilities.",
        ),
        "true negatives": (
            "Most confident true negatives",
            f"Correctly not decided as “{minority}”, with the lowest probabilities of it.",
        ),
        "right": (
            "Most confident correct decisions, one of each class",
            "Correctly decided, with the highest probability.",
        ),
    }


def _decided(p: npt.NDArray[np.float64], decision: int, label: int, class_names: tuple[str, ...]) -> Decided:
    return Decided(class_names[decision], float(p[decision]), class_names[label], float(p[label]))


def _maps(run: ComparedRun, rows: npt.NDArray[np.int64], pixels: ImageArray) -> tuple[FloatArray | None, str]:
    """``[n, h, w]`` maps of the chosen rows, from the exported model where it is of this run."""
    from_file = _maps_of_model(run, pixels)
    if from_file is not None:
        return from_file, "the anomaly map of model.onnx"
    return _maps_of_member(run, rows)


def _maps_of_model(run: ComparedRun, pixels: ImageArray) -> FloatArray | None:
    """Maps by ``model.onnx``; None where there is none, it is of another ensemble, or it has no map."""
    path = run.exported
    if path is None:
        return None
    from export.scoring.model import load_model

    anomaly_map = load_model(path).run(pixels).anomaly_map
    return None if anomaly_map is None else np.asarray(anomaly_map, dtype=np.float32)


def _maps_of_member(run: ComparedRun, rows: npt.NDArray[np.int64]) -> tuple[FloatArray | None, str]:
    """Maps by the first member whose fitted module gives one."""
    import torch

    from features.apply import feature_batches
    from workflow.run.features import load_backbones

    manifest_rows = [run.data.judged[i] for i in rows]
    for fit, result in run.results.items():
        plan = fit.member
        if fit.fold != FINAL or plan.name in run.left_out:
            continue
        member = build_member(plan.type, plan.settings, plan.backbone).restore(
            result.state, result.state_meta
        )
        module = member.to_module().eval()
        backbone = load_backbones(run.config, {plan.backbone})[plan.backbone]
        backbone.fill(run.data, manifest_rows, run.config.decode, "cpu")
        selected = backbone.rows(run.data, manifest_rows, run.config.decode)
        with torch.inference_mode():
            # One image tells whether there is a map at all.
            probe = next(feature_batches(selected.subset(np.arange(1)), member.needs, "cpu"))
            if module(probe)[1] is None:
                continue
            found = [module(features)[1] for features in feature_batches(selected, member.needs, "cpu")]
        return torch.cat(found).float().numpy(), plan.name
    return None, ""
