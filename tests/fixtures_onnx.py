"""Tiny ONNX files in our format, built node by node, whose scores can be checked by hand.

Two members look at an image: ``bright`` is the mean of all values, ``red`` the mean of the red channel,
both 0…1. The minority is the bright images: logit = 8 * (bright - 0.5), shifted by the prior.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper, save

SIZE = 16
MEMBERS = ["bright", "red"]
CLASSES = ["dark", "light"]


def metadata(**changes: Any) -> dict[str, Any]:
    """The metadata document of the two-class file, with changes; a value of None removes the key."""
    document = {
        "format": 2,
        "classes": CLASSES,
        "minority": "light",
        "decode": {"size": SIZE, "window": None},
        "members": MEMBERS,
        "threshold": {"rule": "fixed", "value": 0.5},
        "prior": 0.5,
        "trained_prior": 0.5,
        "dataset": "made up",
        "recipe": "by hand",
        "metrics": {},
        "digests": {},
    } | changes
    return {key: value for key, value in document.items() if value is not None}


def expected_probability(pixels: np.ndarray, prior: float = 0.5) -> float:
    """What the two-class file must say of ``[S, S, 3]`` uint8 pixels."""
    logit = 8.0 * (pixels.astype(np.float64).mean() / 255.0 - 0.5) + math.log(prior / (1.0 - prior))
    return 1.0 / (1.0 + math.exp(-logit))


def _constant(name: str, value: Any, dtype: Any = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype=dtype), name)


def _scores_nodes() -> tuple[list[Any], list[TensorProto]]:
    """Images to member_scores [N, 2] and bright [N, 1]."""
    nodes = [
        helper.make_node("Cast", ["images"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["as_float", "full_scale"], ["unit"]),
        helper.make_node("ReduceMean", ["unit", "pixel_axes"], ["channel_means"], keepdims=0),
        helper.make_node("ReduceMean", ["channel_means", "last_axis"], ["bright"], keepdims=1),
        helper.make_node("Gather", ["channel_means", "red_channel"], ["red"], axis=1),
        helper.make_node("Concat", ["bright", "red"], ["member_scores"], axis=1),
    ]
    constants = [
        _constant("full_scale", 255.0),
        _constant("pixel_axes", [1, 2], np.int64),
        _constant("last_axis", [1], np.int64),
        _constant("red_channel", [0], np.int64),
    ]
    return nodes, constants


def _save(path: Path, graph: Any, document: dict[str, Any] | None) -> Path:
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if document is not None:
        helper.set_model_props(model, {"outnumbered": json.dumps(document)})
    checker.check_model(model)
    save(model, str(path))
    return path


def _images_input() -> Any:
    return helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", "H", "W", 3])


def write_two_class_model(
    path: Path,
    document: dict[str, Any] | None = None,
    *,
    adjustable: bool = True,
    with_map: bool = False,
    nan_when_black: bool = False,
    with_triage: bool = False,
) -> Path:
    """Write the file described at the top.

    ``document`` None means the usual metadata and ``{}`` none at all; ``nan_when_black`` divides by
    the brightness, so that an all-black image gets no finite score. ``with_triage`` has p_normal = 1 - bright
    and p_minority = bright, and images of a brightness of 0.3 to 0.7 are REVIEW.
    """
    nodes, constants = _scores_nodes()
    bright = "bright"
    if nan_when_black:
        nodes.append(helper.make_node("Div", ["bright", "bright"], ["one_or_nan"]))
        nodes.append(helper.make_node("Mul", ["bright", "one_or_nan"], ["bright_or_nan"]))
        bright = "bright_or_nan"
    nodes += [
        helper.make_node("Sub", [bright, "half"], ["centred"]),
        helper.make_node("Mul", ["centred", "eight"], ["logit_N1"]),
        helper.make_node("Squeeze", ["logit_N1", "last_axis"], ["logit"]),
        helper.make_node("Sub", ["one", "prior"], ["prior_rest"]),
        helper.make_node("Div", ["prior", "prior_rest"], ["prior_odds"]),
        helper.make_node("Log", ["prior_odds"], ["prior_logit"]),
        helper.make_node("Add", ["logit", "prior_logit"], ["shifted"]),
        helper.make_node("Sigmoid", ["shifted"], ["probability"]),
        helper.make_node("GreaterOrEqual", ["probability", "threshold"], ["decided"]),
        helper.make_node("Cast", ["decided"], ["decision"], to=TensorProto.INT64),
    ]
    constants += [_constant("half", 0.5), _constant("eight", 8.0), _constant("one", 1.0)]
    constants += [_constant("prior", 0.5), _constant("threshold", 0.5)]
    inputs = [_images_input()]
    if adjustable:  # an initializer that is listed as an input too may be overridden
        inputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, []) for n in ("prior", "threshold")]
    outputs = [
        helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"]),
        helper.make_tensor_value_info("decision", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("member_scores", TensorProto.FLOAT, ["N", 2]),
    ]
    if with_map:
        nodes.append(helper.make_node("ReduceMean", ["unit", "colour_axis"], ["anomaly_map"], keepdims=0))
        constants.append(_constant("colour_axis", [3], np.int64))
        outputs.append(helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", "H", "W"]))
    if with_triage:
        nodes += [
            helper.make_node("Squeeze", [bright, "last_axis"], ["p_minority"]),
            helper.make_node("Sub", ["one", "p_minority"], ["p_normal"]),
            helper.make_node("Sub", ["p_minority", "half"], ["off_middle"]),
            helper.make_node("Abs", ["off_middle"], ["distance"]),
            helper.make_node("LessOrEqual", ["distance", "fifth"], ["may_be_either"]),
            helper.make_node("Where", ["may_be_either", "review", "decision"], ["triage"]),
        ]
        constants += [_constant("fifth", 0.2), _constant("review", 2, np.int64)]
        outputs += [
            helper.make_tensor_value_info("p_normal", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("p_minority", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("triage", TensorProto.INT64, ["N"]),
        ]
    graph = helper.make_graph(nodes, "two_class", inputs, outputs, constants)
    return _save(path, graph, metadata() if document is None else document or None)


def write_normal_only_model(path: Path) -> Path:
    """No probability: p_normal is 1 - bright, never below 0.05 (19 normal images); "light" up to 0.2."""
    nodes, constants = _scores_nodes()
    nodes += [
        helper.make_node("Sub", ["one", "bright"], ["dark_N1"]),
        helper.make_node("Squeeze", ["dark_N1", "last_axis"], ["dark"]),
        helper.make_node("Max", ["dark", "least"], ["p_normal"]),
        helper.make_node("LessOrEqual", ["p_normal", "threshold"], ["decided"]),
        helper.make_node("Cast", ["decided"], ["decision"], to=TensorProto.INT64),
        helper.make_node("ReduceMean", ["unit", "colour_axis"], ["anomaly_map"], keepdims=0),
    ]
    constants += [_constant("one", 1.0), _constant("least", 0.05), _constant("threshold", 0.2)]
    constants.append(_constant("colour_axis", [3], np.int64))
    inputs = [_images_input(), helper.make_tensor_value_info("threshold", TensorProto.FLOAT, [])]
    outputs = [
        helper.make_tensor_value_info("p_normal", TensorProto.FLOAT, ["N"]),
        helper.make_tensor_value_info("decision", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("member_scores", TensorProto.FLOAT, ["N", 2]),
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", "H", "W"]),
    ]
    graph = helper.make_graph(nodes, "normal_only", inputs, outputs, constants)
    document = metadata(
        threshold={"rule": "false_alarms<=0.2", "value": 0.2},
        method="mean_of_scores",
        regime="normal_only",
        conformal={"n": 19, "images": 19, "least": 0.05, "sentence": "p_normal places an image among 19."},
    )
    return _save(path, graph, document | {"prior": None, "trained_prior": None})


def write_three_class_model(path: Path) -> Path:
    """Three classes from the mean colour channels: the probabilities are softmax(8 * channel means)."""
    nodes, constants = _scores_nodes()
    nodes += [
        helper.make_node("Mul", ["channel_means", "eight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probability"], axis=1),
        helper.make_node("ArgMax", ["probability"], ["decision"], axis=1, keepdims=0),
    ]
    constants.append(_constant("eight", 8.0))
    outputs = [
        helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 3]),
        helper.make_tensor_value_info("decision", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("member_scores", TensorProto.FLOAT, ["N", 2]),
    ]
    graph = helper.make_graph(nodes, "three_class", [_images_input()], outputs, constants)
    return _save(path, graph, metadata(classes=["reddish", "greenish", "bluish"], minority="bluish"))


def write_foreign_model(path: Path) -> Path:
    """A valid ONNX file that is none of ours: no metadata."""
    return write_two_class_model(path, {})
