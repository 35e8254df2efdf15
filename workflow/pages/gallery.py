"""Pictures for the report: the surest wrong and the surest right, with maps of the evidence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from contracts.rows import FloatArray, ImageArray
from features.rows import read_pixels
from reporting.content import Decided, Gallery, Picture
from workflow.ensembling.compared_run import ComparedRun
from workflow.ensembling.measuring import ENSEMBLE_ROW
from workflow.run.fits import FINAL
from workflow.settings.registry import build_member

PICTURES = 8
"""Of each gallery."""

MOST_CLASSES = 12
"""Of which the surest right image is shown."""


def galleries(run: ComparedRun) -> tuple[list[Gallery], str]:
    """Choose pictures by the ensemble's probabilities.

    Returns:
        Four galleries, and where their maps come from; an empty text where no member has a map.

    Raises:
        DataError: an image has gone or changed since training.
    """
    ensemble, labels, names = run.fitted_rows[ENSEMBLE_ROW], run.test.labels, run.test.class_names
    p, decision = ensemble.predict(run.test.scores), ensemble.decide(run.test.scores)
    p_minority = ensemble.p_minority(run.test.scores)
    is_multiclass = p.ndim == 2
    if is_multiclass:
        chosen, words = surest_of_classes(p, decision, labels), _multiclass_words(names[-1])
    else:
        chosen, words = surest(p_minority, decision, labels, len(names)), _words(names[-1])
    rows = np.unique(np.concatenate(list(chosen.values())))
    pixels = read_pixels([run.data.file_of(run.data.test[i]) for i in rows], run.config.decode)
    maps, source = _maps(run, rows, pixels)
    at = {int(row): place for place, row in enumerate(rows)}
    shown = []
    for name, (title, sentence) in words.items():
        pictures = [
            Picture(
                path=str(run.test.row_ids[i]),
                p_minority=float(p_minority[i]),
                pixels=pixels[at[int(i)]],
                heat=None if maps is None else maps[at[int(i)]],
                decided=_decided(p[i], int(decision[i]), int(labels[i]), names) if is_multiclass else None,
            )
            for i in chosen[name]
        ]
        shown.append(Gallery(title, sentence, pictures))
    return shown, source


def _words(minority: str) -> dict[str, tuple[str, str]]:
    """Gallery of two classes → its title and sentence."""
    return {
        "false alarms": (
            "Surest false alarms",
            f"No “{minority}” by their labels, but given the highest probabilities of it.",
        ),
        "missed": (
            "Surest misses",
            f"“{minority}” by their labels, but given the lowest probabilities of it.",
        ),
        "found": (f"Surest found: {minority}", "Rightly given the highest probabilities."),
        "spared": ("Surest spared", f"Rightly given the lowest probabilities of “{minority}”."),
    }


def _multiclass_words(minority: str) -> dict[str, tuple[str, str]]:
    """The same for K > 2 classes."""
    return {
        "wrong": (
            "Surest wrong",
            "Decided as a class that their labels deny, with the highest probabilities of that class.",
        ),
        "missed": (
            f"Surest misses: {minority}",
            f"“{minority}” by their labels, decided otherwise, with the lowest probabilities of it.",
        ),
        "found": (f"Surest found: {minority}", "Rightly given the highest probabilities."),
        "right": ("Surest right, one of each class", "Rightly decided, with the highest probability."),
    }


def _decided(p: npt.NDArray[np.float64], decision: int, label: int, class_names: tuple[str, ...]) -> Decided:
    return Decided(class_names[decision], float(p[decision]), class_names[label], float(p[label]))


def surest(
    p_minority: npt.NDArray[np.float64],
    decision: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    n_classes: int,
    count: int = PICTURES,
) -> dict[str, npt.NDArray[np.int64]]:
    """Positions of the rows that the model is surest of, the surest first; ties in row order.

    Args:
        p_minority: ``[N]``.
        decision: ``[N]`` decided class index.
        labels: ``[N]`` class index, minority last.
        n_classes: K.
        count: of each kind, at most.

    Returns:
        ``false alarms``, ``missed``, ``found`` and ``spared``.
    """
    flagged, minority = decision == n_classes - 1, labels == n_classes - 1
    falling, rising = np.argsort(-p_minority, kind="stable"), np.argsort(p_minority, kind="stable")
    kinds = {
        "false alarms": (falling, flagged & ~minority),
        "missed": (rising, ~flagged & minority),
        "found": (falling, flagged & minority),
        "spared": (rising, ~flagged & ~minority),
    }
    return {name: order[mask[order]][:count] for name, (order, mask) in kinds.items()}


def surest_of_classes(
    p: npt.NDArray[np.float64],
    decision: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    count: int = PICTURES,
    most_classes: int = MOST_CLASSES,
) -> dict[str, npt.NDArray[np.int64]]:
    """Positions of the rows that the model of K > 2 classes is surest of, the surest first.

    Args:
        p: ``[N, K]``.
        decision: ``[N]`` decided class index.
        labels: ``[N]`` class index, minority last.
        count: of each kind, at most.
        most_classes: of which a right one is shown, the last ones.

    Returns:
        ``wrong``; ``missed`` and ``found`` of the minority; ``right``, one of each class, the minority first.
        Ties are in row order.
    """
    n_classes = p.shape[1]
    is_right, is_minority = decision == labels, labels == n_classes - 1
    surest_first = np.argsort(-p[np.arange(len(p)), decision], kind="stable")
    falling, rising = np.argsort(-p[:, -1], kind="stable"), np.argsort(p[:, -1], kind="stable")
    right = surest_first[is_right[surest_first]]
    classes = range(n_classes - 1, max(-1, n_classes - 1 - most_classes), -1)
    of_class = [right[labels[right] == label][:1] for label in classes]
    kinds = {
        "wrong": (surest_first, ~is_right),
        "missed": (rising, ~is_right & is_minority),
        "found": (falling, is_right & is_minority),
    }
    chosen = {name: order[mask[order]][:count] for name, (order, mask) in kinds.items()}
    return {**chosen, "right": np.concatenate(of_class)}


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

    manifest_rows = [run.data.test[i] for i in rows]
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
