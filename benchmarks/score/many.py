"""Planning time and memory of ``score`` on very many images.

``python -m benchmarks.score.many MODEL.onnx FOLDER --images 1000 100000``: the images are links to the files
of FOLDER, over and over, as neither planning nor memory depends on what is in them. Prints one JSON line per
count: seconds to find and plan them (with the model loaded), seconds and images per second of the command,
and the peak memory of the command and its workers together.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from benchmarks.memory import peak_memory_mb
from export.scoring.inputs.listing import find_images
from export.scoring.model import load_model
from export.scoring.plan import DEFAULT_SHARD_SIZE, ScoreSettings, make_shards
from imagedata.decoding.formats import IMAGE_SUFFIXES

_PER_FOLDER = 1000


def link_files(files: list[Path], folder: Path, count: int) -> None:
    """Make ``count`` links to the files, a thousand a folder."""
    for number, file in enumerate(islice(cycle(files), count)):
        place = folder / f"{number // _PER_FOLDER:04d}"
        if number % _PER_FOLDER == 0:
            place.mkdir(parents=True)
        (place / f"{number:06d}{file.suffix}").symlink_to(file)


def planning_seconds(folder: Path, settings: ScoreSettings) -> float:
    """Seconds to find the images of a folder and cut them into shards."""
    started = time.perf_counter()
    found = find_images([folder])
    make_shards(found.paths, settings, DEFAULT_SHARD_SIZE, found.packed)
    return time.perf_counter() - started


def main() -> None:
    """Link, plan, score, print; for each count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="An exported file.")
    parser.add_argument("folder", type=Path, help="Images; all below it are used.")
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--runtime", default="onnxruntime")
    arguments = parser.parse_args()
    files = sorted(
        path.resolve() for path in arguments.folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES
    )
    if not files:
        parser.error(f"{arguments.folder}: no images below it.")
    model = load_model(arguments.model)
    settings = ScoreSettings(model.sha256, model.decode.to_json())
    for count in arguments.images:
        with tempfile.TemporaryDirectory() as place:
            images, output = Path(place) / "images", Path(place) / "scores"
            link_files(files, images, count)
            planned = planning_seconds(images, settings)
            command = [sys.executable, "cli.py", "score", str(arguments.model), str(images)]
            command += ["--output", str(output), "--runtime", arguments.runtime]
            started = time.perf_counter()
            peak = peak_memory_mb(command)
            seconds = time.perf_counter() - started
        figures = {
            "images": count,
            "planning_seconds": round(planned, 2),
            "seconds": round(seconds, 1),
            "images_per_second": round(count / seconds, 1),
            "peak_memory_mb": None if peak is None else round(peak),
        }
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
