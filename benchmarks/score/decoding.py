"""What decoding costs, step by step, beside other decoders and resizers.

``python -m benchmarks.score.decoding FOLDER``: the JPEG files of FOLDER are written again at 256 px, in
colour and in grey, and every step is timed on all of them in turn. Prints one JSON line per step: median
milliseconds of processor time per image and, for other packages (measured where they are installed), how far
their pixels are from ours.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from contracts.rows import ImageArray
from imagedata.decoding.decode import (
    DecodeSettings,
    decode_at_stored_size,
    decode_bytes,
    load_whole,
    opened_image,
    reuse_pixel_memory,
)
from imagedata.decoding.facts import picture_facts

_STORED, _QUALITY, _ROUNDS = 256, 90, 5
_SETTINGS = DecodeSettings(224)
_PIXELS = (_SETTINGS.size, _SETTINGS.size)

Step = Callable[[Any], object]
Decode = Callable[[bytes], ImageArray] | None
Resize = Callable[[ImageArray], ImageArray] | None


def main(folder: Path, most: int = 200) -> int:
    """Measure; see the module."""
    reuse_pixel_memory()
    files = sorted(folder.rglob("*.jpg"))[:most]
    pictures = [decode_at_stored_size(file.read_bytes(), None).resize((_STORED, _STORED)) for file in files]
    if not pictures:
        sys.stderr.write(f"{folder}: no .jpg file in it. Name a folder of JPEG files.\n")
        return 2
    for kind, mode in (("colour", "RGB"), ("grey", "L")):
        jpegs = [_jpeg(picture.convert(mode)) for picture in pictures]
        stored = [decode_at_stored_size(jpeg, None) for jpeg in jpegs]
        ours = [decode_bytes(jpeg, _SETTINGS) for jpeg in jpegs]
        steps: dict[str, tuple[Step, Sequence[Any]]] = {
            "whole": (lambda jpeg: decode_bytes(jpeg, _SETTINGS), jpegs),
            "header and pixels": (_loaded, jpegs),
            "resize": (_resized, [picture.convert(mode) for picture in stored]),
            "facts for the watch": (lambda image: picture_facts(image, 1000), ours),
        }
        differences = {}
        for name, (decode, resize) in _others().items():
            if decode is not None:
                steps[f"{name}, pixels"] = (decode, jpegs)
                made = [decode(jpeg) for jpeg in jpegs]
                differences[f"{name}, pixels"] = _difference(made, [np.asarray(each) for each in stored])
            if resize is not None:
                arrays = [np.asarray(each) for each in stored]
                steps[f"{name}, resize"] = (resize, arrays)
                made = [resize(array) for array in arrays]
                differences[f"{name}, resize"] = _difference(made, [each.pixels for each in ours])
        for step, ms in _milliseconds(steps).items():
            line = {"jpegs": kind, "step": step, "ms": round(ms, 3)}
            print(json.dumps(line | differences.get(step, {})))
    return 0


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _loaded(jpeg: bytes) -> None:
    with opened_image(jpeg) as image:
        load_whole(image, jpeg)


def _resized(picture: Image.Image) -> Image.Image:
    return picture.resize(_PIXELS, Image.Resampling.BILINEAR)


def _others() -> dict[
    str, tuple[Callable[[bytes], ImageArray] | None, Callable[[ImageArray], ImageArray] | None]
]:
    """Package → how it decodes and how it resizes, of those that are installed."""
    found: dict[str, Any] = {"ONNX Runtime": (None, _by_onnxruntime())}
    try:
        import simplejpeg  # type: ignore[import-not-found]  # measured, not used

        # Without the fast ways of libjpeg-turbo, which give other pixels.
        found["simplejpeg"] = (lambda jpeg: simplejpeg.decode_jpeg(jpeg, "RGB", fastupsample=False), None)
    except ImportError:
        pass
    try:
        from kornia_rs import imgproc

        found["kornia-rs"] = (None, lambda array: imgproc.resize(array, _PIXELS, "bilinear"))
    except ImportError:
        pass
    return found


def _by_onnxruntime() -> Callable[[ImageArray], ImageArray]:
    import onnxruntime
    from onnx import TensorProto, helper

    node = helper.make_node(
        "Resize",
        ["x", "", "", "size"],
        ["y"],
        mode="linear",
        antialias=1,
        axes=[0, 1],
        coordinate_transformation_mode="half_pixel",
    )
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [None, None, 3])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [*_PIXELS, 3])],
        [helper.make_tensor("size", TensorProto.INT64, [2], _PIXELS)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda array: np.asarray(session.run(None, {"x": array})[0])


def _difference(made: Sequence[ImageArray], ours: Sequence[ImageArray]) -> dict[str, float]:
    """Largest difference in grey levels, and the share of values that differ."""
    apart = [np.abs(a.astype(np.int16) - b) for a, b in zip(made, ours, strict=True)]
    return {
        "largest_difference": int(max(each.max() for each in apart)),
        "share_that_differs": round(float(np.mean([(each > 0).mean() for each in apart])), 4),
    }


def _milliseconds(steps: dict[str, tuple[Step, Sequence[Any]]]) -> dict[str, float]:
    """Median over rounds in turn of processor time per image: other work beside disturbs it less."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(_ROUNDS):
        for name, (step, inputs) in steps.items():
            started = time.process_time()
            for each in inputs:
                step(each)
            seconds[name].append((time.process_time() - started) / len(inputs))
    return {name: 1000.0 * statistics.median(each) for name, each in seconds.items()}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
