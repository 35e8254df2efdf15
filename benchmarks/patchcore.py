"""``python -m benchmarks.patchcore DATASET...``: our PatchCore against anomalib's, on equal terms.

Three ways are fitted on the same majority images and score the same test images, each in a process of
its own, whose peak memory is theirs alone:

- ``anomalib``: its Engine and its PatchcoreModel, in torch.
- ``ours, its settings``: the same two layers on the finer one's grid, no PCA, a tenth of all patches chosen
  by exact k-centre greedy, its image score; run as the graph that we export.
- ``ours, default``: the coarser grid, PCA to 128 and 2,000 patches; run as the graph that we export.

Then all three are loaded side by side and timed in turn, batch by batch. The backbone is
``tf_efficientnet_lite0`` with its packaged weights in all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.patchcore_page import NEIGHBOURS, RATIO, SIZE, as_markdown, print_figures
from benchmarks.rows import MemoryRows
from contracts.member import FitContext

console = Console(stderr=True)

DIGITS = "digits"
"""Name of MNIST's digits, which are no data set of the catalogue with a majority."""

_NORMAL_DIGIT = 8
ARMS = ("anomalib", "ours, its settings", "ours, default")
_BATCH = 16
_ROUNDS = 5
_ARM_FILE = "arm.npz"


def load_images(
    name: str, data: Path | None, n_train: int, n_test: int, folder: Path, overrides: tuple[str, ...] = ()
) -> None:
    """Write the data set's pixels at the working size: majority training images, and held-out ones."""
    if name == DIGITS:
        np.savez(folder / "images.npz", allow_pickle=False, **_digits(n_train, n_test))
        return
    from imagedata.decoding.decode import decode_file
    from workflow.run.prepared import prepare_data
    from workflow.settings.config import RunOptions, resolve_config

    config = resolve_config(RunOptions(name, data, "quick", overrides, runs=folder / "runs"))
    prepared = prepare_data(config)
    rng = np.random.default_rng(0)
    labels = np.asarray(prepared.labels(prepared.train))
    normal = np.flatnonzero(labels != labels.max())
    train = np.sort(rng.choice(normal, min(n_train, len(normal)), replace=False))
    test_labels = np.asarray(prepared.labels(prepared.test))
    test = np.arange(len(prepared.test))
    if len(test) > n_test:
        test = np.sort(rng.choice(test, n_test, replace=False))

    def pixels(rows: list[Any]) -> np.ndarray:
        return np.stack([decode_file(prepared.file_of(row), config.decode).pixels for row in rows])

    np.savez(
        folder / "images.npz",
        train=pixels([prepared.train[i] for i in train]),
        test=pixels([prepared.test[i] for i in test]),
        test_labels=(test_labels[test] == test_labels.max()).astype(np.int64),
    )


def _digits(n_train: int, n_test: int) -> dict[str, np.ndarray]:
    """Handwritten digits: the eights are the majority, every other digit in the test set is anomalous."""
    from PIL import Image

    from benchmarks.oneclass_sets import load_set

    digits = load_set("mnist", None)
    rng = np.random.default_rng(0)
    normal = np.flatnonzero(digits.train_labels == _NORMAL_DIGIT)
    train = np.sort(rng.choice(normal, min(n_train, len(normal)), replace=False))
    test = np.sort(rng.choice(len(digits.test_labels), min(n_test, len(digits.test_labels)), replace=False))

    def pixels(images: np.ndarray) -> np.ndarray:
        sized = [Image.fromarray(image).convert("RGB").resize((SIZE, SIZE)) for image in images]
        return np.stack([np.asarray(image) for image in sized])

    return {
        "train": pixels(digits.train_images[train]),
        "test": pixels(digits.test_images[test]),
        "test_labels": (digits.test_labels[test] != _NORMAL_DIGIT).astype(np.int64),
    }


def run_arm(arm: str, folder: Path) -> dict[str, Any]:
    """Fit one way and score the test images; writes what the others compare with."""
    import torch

    from oneclass.from_anomalib import training

    images = np.load(folder / "images.npz")
    train, test = images["train"], images["test"]
    if arm == "anomalib":
        # Our members take our own choice of the bank; here anomalib's is what is measured.
        training.exact_coreset = _their_own_coreset  # type: ignore[assignment]
        member: Any = _their_member()
        # Imports are no part of a fit.
        import anomalib.engine
        import anomalib.models.image  # noqa: F401

        before = _peak_megabytes()
        started = time.perf_counter()
        member.fit(MemoryRows(np.zeros(len(train), dtype=np.int64), train), FitContext(seed=0))
        seconds = time.perf_counter() - started
        peak = _peak_megabytes()
        arrays, meta = member.state()
        network = member.raw_module().network
        scores = np.concatenate([_their_scores(member, test[i : i + _BATCH]) for i in _starts(test)])
        bank = network.memory_bank.numpy()
        (folder / "anomalib.json").write_text(json.dumps(meta))
        np.savez(folder / "anomalib.npz", **arrays)
    else:
        backbone, settings, run = _our_parts(arm, folder)
        before = _peak_megabytes()
        started = time.perf_counter()
        rows = MemoryRows(np.zeros(len(train), dtype=np.int64), train, _patches(run, train))
        n_patches = len(train) * rows.shapes.patch_grid**2
        member = _our_member(settings, n_patches).fit(rows, FitContext(seed=0))
        seconds = time.perf_counter() - started
        peak = _peak_megabytes()
        _write_graph(folder, arm, backbone, member)
        score = _graph_runner(folder, arm)
        scores = np.concatenate([score(test[i : i + _BATCH]) for i in _starts(test)])
        bank = member.raw_module().bank.numpy()
    np.savez(folder / f"{ARMS.index(arm)}-{_ARM_FILE}", scores=scores, labels=images["test_labels"])
    return {
        "fit_seconds": seconds,
        "fit_megabytes": peak - before,
        "bank": list(bank.shape),
        "threads": torch.get_num_threads(),
    }


def compare_speed(folder: Path) -> dict[str, float]:
    """Images per second of each way, timed in turn on the same batches; medians."""
    import torch

    test = np.load(folder / "images.npz")["test"]
    with np.load(folder / "anomalib.npz") as arrays:
        meta = json.loads((folder / "anomalib.json").read_text())
        theirs = _their_member().restore(dict(arrays), meta)
    cases: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "anomalib": lambda pixels: _their_scores(theirs, pixels),
        **{arm: _graph_runner(folder, arm) for arm in ARMS[1:]},
    }
    rates: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with torch.inference_mode():
        for round_ in range(-1, _ROUNDS):
            batch = test[(round_ + 1) * _BATCH : (round_ + 2) * _BATCH]
            for arm, score in cases.items():
                started = time.perf_counter()
                score(batch)
                if round_ >= 0:  # the first one warms up
                    rates[arm].append(len(batch) / (time.perf_counter() - started))
    return {arm: statistics.median(values) for arm, values in rates.items()}


def same_bank(folder: Path, n_images: int = 32) -> dict[str, float]:
    """How far our scores are from anomalib's where our scoring has its bank, on our backbone's features.

    Returns:
        Largest absolute difference of a score with our features as they are computed, and with them
        rounded to half precision as the feature store keeps them; and the scores' own median.
    """
    import torch

    from features.backbones import Backbone
    from features.settings import BackboneSettings
    from features.tensors import BackboneFeatures
    from oneclass.from_anomalib.module import search_settings
    from oneclass.patchcore.module import PatchCoreModule

    images = np.load(folder / "images.npz")["test"]
    test = images[:: max(1, len(images) // n_images)]
    with np.load(folder / "anomalib.npz") as arrays:
        bank = torch.from_numpy(arrays["memory_bank"])
    with np.load(folder / f"0-{_ARM_FILE}") as kept:
        theirs = kept["scores"][:: max(1, len(images) // n_images)]
    mean = bank.mean(dim=0)
    module = PatchCoreModule(search_settings(NEIGHBOURS), mean, None, bank - mean)
    backbone = Backbone(BackboneSettings(image_size=SIZE, patch_grid="finest"))
    nothing = torch.empty(0)
    exact, rounded = [], []
    with torch.inference_mode():
        for start in _starts(test):
            pixels = torch.from_numpy(test[start : start + _BATCH]).permute(0, 3, 1, 2).float()
            by_stride, _ = backbone.layers((pixels - backbone.mean) / backbone.std)
            patches = backbone.on_one_grid([by_stride[stride] for stride in backbone.settings.patch_strides])
            exact.append(module(BackboneFeatures(nothing, nothing, patches))[0][:, 0])
            rounded.append(module(BackboneFeatures(nothing, nothing, patches.half().float()))[0][:, 0])
    return {
        "exact": float(np.abs(torch.cat(exact).numpy() - theirs).max()),
        "rounded": float(np.abs(torch.cat(rounded).numpy() - theirs).max()),
        "median_score": float(np.median(theirs)),
        "images": len(test),
    }


def _their_member() -> Any:
    from oneclass.from_anomalib.member import AnomalibMember
    from oneclass.from_anomalib.settings import AnomalibSettings

    arguments = {"coreset_sampling_ratio": RATIO, "num_neighbors": NEIGHBOURS}
    return AnomalibMember(AnomalibSettings(model="patchcore", weights="packaged", arguments=arguments))


@contextlib.contextmanager
def _their_own_coreset(_seed: int) -> Iterator[None]:
    yield


def _their_scores(member: Any, pixels: np.ndarray) -> np.ndarray:
    """Of anomalib's own forward pass, loop over chunks and map included."""
    import torch

    module = member.raw_module()
    with torch.inference_mode():
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().contiguous()
        scores: np.ndarray = module.network(module.preparation(images)).pred_score.numpy()
    return scores


def _our_parts(arm: str, folder: Path) -> tuple[Any, dict[str, Any], Any]:
    """The backbone, the member's settings and the runner; the ONNX file is made before any timing."""
    from features.backbones import Backbone
    from features.graphs.runner import backbone_runner
    from features.settings import BackboneSettings

    like_theirs = arm == ARMS[1]
    backbone = Backbone(BackboneSettings(image_size=SIZE, patch_grid="finest" if like_theirs else "coarsest"))
    run = backbone_runner(backbone, folder / f"backbone-{like_theirs}", "cpu")
    theirs = {"whiten": False, "pca_dim": None, "image_score": "reweighted", "neighbours": NEIGHBOURS}
    settings = theirs if like_theirs else {}
    return backbone, settings, run


def _our_member(settings: dict[str, Any], n_patches: int) -> Any:
    from oneclass.patchcore.member import PatchCore
    from oneclass.patchcore.settings import PatchCoreSettings

    if settings:
        settings = {**settings, "bank_size": int(RATIO * n_patches), "candidate_patches": n_patches}
    return PatchCore(PatchCoreSettings(**settings))


def _patches(run: Any, pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([run(pixels[start : start + _BATCH])[1] for start in _starts(pixels)])


def _graph_path(folder: Path, arm: str) -> Path:
    return folder / f"graph-{ARMS.index(arm)}.onnx"


def _write_graph(folder: Path, arm: str, backbone: Any, member: Any) -> None:
    from export.graph import GraphMember
    from export.member_check import graph_of_member
    from export.onnx_file import write_onnx

    graph = graph_of_member(backbone, GraphMember("patchcore", "backbone", member.to_module()), SIZE)
    write_onnx(_graph_path(folder, arm), graph, None, np.asarray(0.0), {})


def _graph_runner(folder: Path, arm: str) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        _graph_path(folder, arm), options, providers=["CPUExecutionProvider"]
    )

    def run(pixels: np.ndarray) -> np.ndarray:
        scores: np.ndarray = session.run(["member_scores"], {"images": pixels})[0][:, 0]
        return scores

    return run


def _starts(rows: np.ndarray) -> range:
    return range(0, len(rows), _BATCH)


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(
    name: str, data: Path | None, n_train: int, n_test: int, overrides: tuple[str, ...] = ()
) -> dict[str, Any]:
    """All figures of one data set."""
    from sklearn.metrics import roc_auc_score

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        load_images(name, data, n_train, n_test, folder, overrides)
        figures: dict[str, Any] = {"dataset": name, "arms": {}}
        with np.load(folder / "images.npz") as images:
            figures |= {"train": len(images["train"]), "test": len(images["test"])}
        for number, arm in enumerate(ARMS):
            outcome = _apart("arm", arm, folder)
            with np.load(folder / f"{number}-{_ARM_FILE}") as kept:
                outcome["auroc"] = float(roc_auc_score(kept["labels"], kept["scores"]))
            figures["arms"][arm] = outcome
            console.print(f"{name}, {arm}: {outcome}")
        figures["same_bank"] = _apart("same-bank", "", folder)
        for arm, rate in _apart("speed", "", folder).items():
            figures["arms"][arm]["images_per_second"] = rate
    return figures


def _apart(what: str, arm: str, folder: Path) -> dict[str, Any]:
    """A step in a process of its own, so that one way's memory and libraries do not weigh on another's."""
    command = [sys.executable, "-m", "benchmarks.patchcore", "--step", what, "--arm", arm]
    done = subprocess.run([*command, "--folder", str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def main() -> None:
    """Measure data sets and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "datasets", nargs="*", default=["elpv"], help="by name, or digits; elpv when none is given"
    )
    parser.add_argument("--data", type=Path, help="folder that holds the images")
    parser.add_argument("--train", type=int, default=60, help="majority images, at most")
    parser.add_argument("--test", type=int, default=2000, help="test images to score, at most")
    parser.add_argument("--output", type=Path, help="page to write, such as docs/results/oneclass.md")
    parser.add_argument("--note", default="", help="what to say of the machine on that page")
    parser.add_argument("--keep", type=Path, help="JSON file of figures that are taken over and added to")
    parser.add_argument(
        "-o", dest="overrides", action="append", default=[], help="such as covid.test_per_class=60"
    )
    for hidden in ("--step", "--arm", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        folder = Path(arguments.folder)
        steps: dict[str, Callable[[], Any]] = {
            "arm": lambda: run_arm(arguments.arm, folder),
            "speed": lambda: compare_speed(folder),
            "same-bank": lambda: same_bank(folder),
        }
        print(json.dumps(steps[arguments.step]()))
        return
    kept: dict[str, Any] = {}
    if arguments.keep and arguments.keep.exists():
        kept = json.loads(arguments.keep.read_text())
    for name in arguments.datasets:
        if name not in kept:
            mine = (
                pair.removeprefix(f"{name}.") for pair in arguments.overrides if pair.startswith(f"{name}.")
            )
            kept[name] = measure(name, arguments.data, arguments.train, arguments.test, tuple(mine))
        if arguments.keep:
            arguments.keep.write_text(json.dumps(kept, indent=1))
        print_figures(kept[name])
    if arguments.output:
        words = ["python -m benchmarks.patchcore", *arguments.datasets]
        words += [f"--train {arguments.train}", f"--output {arguments.output}"]
        words += [f"--data {arguments.data}"] if arguments.data else []
        words += [f"-o {pair}" for pair in arguments.overrides]
        page = as_markdown([kept[name] for name in arguments.datasets], " ".join(words), arguments.note)
        arguments.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
