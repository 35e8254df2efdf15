"""``python -m benchmarks.anomalib_models``: what each of anomalib's image models can do as a member.

Every model is trained for one epoch on a few made-up images, scored, saved and restored, and written to
ONNX, in a process of its own with a limit of time, so that one that fails or hangs stops no other. Nothing
is said about how well a model does: that takes real images and real weights.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

TABLE = Path("docs/results/anomalib-models.md")
_SIDE = 128
_NORMAL, _ODD = 24, 8
_WHY = 220
_STEPS = ("trains", "scores", "saves", "exports")

# What a model needs beside its defaults to be built quickly and without a hub; sizes in pixels.
_TEXTURES = "textures"
_RESNET = {"weights": "random", "arguments": {"backbone": "resnet18"}}
_DINO = "vit_small_patch14_reg4_dinov2"
_SPECIAL: dict[str, dict[str, Any]] = {
    "anomaly_dino": {"image_size": 112, "arguments": {"encoder_name": "vit_small_patch14_dinov2"}},
    "cfa": _RESNET,
    "cflow": {"arguments": {"coupling_blocks": 2}},
    "dinomaly": {"image_size": 112, "arguments": {"encoder_name": _DINO, "decoder_depth": 8}},
    "draem": {"image_size": 64, "arguments": {"dtd_dir": _TEXTURES}},
    "fastflow": _RESNET,
    "foundad": {"image_size": 112, "arguments": {"image_size": 112}},
    "fre": {"weights": "packaged", "arguments": {"input_dim": 1792}},
    "general_ad": {
        "weights": "random",
        "image_size": 112,
        "arguments": {"backbone": "vit_small_patch14_dinov2.lvd142m", "layers": [12], "hidden_dim": 256},
    },
    "glass": {"arguments": {"input_shape": [_SIDE, _SIDE]}},
    "inp_former": {"image_size": 112, "arguments": {"encoder_name": _DINO}},
    "l2bt": {"image_size": 112},
    "rad": {"weights": "random", "arguments": {"backbone": "vit_small_patch16_dinov3", "k_image": 5}},
    "reverse_distillation": _RESNET,
    "super_add": {
        "weights": "random",
        "arguments": {"backbone": "vit_small_patch16_dinov3", "layers": [5, 8, 11], "patch_size": 128},
    },
    "uflow": _RESNET,
    "uninet": {"image_size": 64},
}

console = Console(stderr=True)


def settings_to_try(name: str) -> list[dict[str, Any]]:
    """Settings in the order they are tried: packaged weights where the model takes them, then random ones."""
    from oneclass.from_anomalib.catalogue import image_model_named

    special = {"max_epochs": 1, "batch_size": 1 if name == "efficient_ad" else 8, **_SPECIAL.get(name, {})}
    takes_backbone = "backbone" in image_model_named(name).arguments and "weights" not in special
    sources = ["packaged", "random"] if takes_backbone else [special.get("weights", "random")]
    tries = []
    for source in sources:
        arguments = dict(special.get("arguments", {}))
        if source == "packaged":
            for key in ("backbone", "layers", "layer"):
                arguments.pop(key, None)
        tries.append({**special, "weights": source, "arguments": arguments})
    return tries


def try_model(name: str) -> dict[str, Any]:
    """Train, score, save and export one model; says how far it came, and why no further."""
    outcome: dict[str, Any] = {}
    for given in settings_to_try(name):
        outcome = _try_settings(name, given)
        if outcome["trains"]:
            break
    return outcome


def _try_settings(name: str, given: dict[str, Any]) -> dict[str, Any]:

    from benchmarks.rows import textured_rows
    from contracts.errors import MemberCollapsedError, OutnumberedError
    from contracts.files import read_arrays, write_arrays
    from contracts.member import FitContext
    from export.graph import GraphMember
    from export.member_check import reason_not_to_export
    from features.backbones import NoBackbone
    from features.settings import BackboneSettings
    from workflow.settings.registry import build_member, entry_of, settings_class

    member_type = f"anomalib:{name}"
    outcome: dict[str, Any] = {"settings": given, "trains": False, "scores": False, "saves": False}
    outcome |= {"exports": False, "why": ""}
    rows = textured_rows(_NORMAL, _ODD, _SIDE)
    if _TEXTURES in given["arguments"].values():
        _write_textures(Path(_TEXTURES), _SIDE)
    started = time.perf_counter()
    try:
        settings = settings_class(member_type)(**entry_of(member_type).defaults, **given)
        member = build_member(member_type, settings, BackboneSettings())
        try:
            member.fit(rows, FitContext(seed=0))
        except MemberCollapsedError:
            outcome["trains"] = True
            raise
        outcome["trains"] = True
        scores = member.score(rows)
        outcome["scores"] = bool(np.isfinite(scores).all() and scores.shape == (len(rows), 1))
        outcome["seconds"] = round(time.perf_counter() - started, 1)
        write_arrays(Path("member.npz"), *member.state())
        restored = build_member(member_type, settings, BackboneSettings()).restore(
            *read_arrays(Path("member.npz"))
        )
        outcome["saves"] = bool(np.allclose(restored.score(rows), scores, rtol=1e-4, atol=1e-6))
    except (OutnumberedError, ValueError) as error:
        outcome["why"] = str(error)
        return outcome
    reason = reason_not_to_export(NoBackbone(), GraphMember(name, "pixels", member.to_module()), _SIDE)
    outcome["exports"] = not reason
    outcome["why"] = reason
    return outcome


def _write_textures(folder: Path, side: int) -> None:
    """A few made-up textures, in place of those that anomalib would fetch."""
    from PIL import Image

    from benchmarks.rows import textured_rows

    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(textured_rows(4, 0, side, seed=1).pixels):
        Image.fromarray(pixels).save(folder / "images" / f"{number}.jpg")


def try_apart(name: str, seconds: int) -> dict[str, Any]:
    """:func:`try_model` in a process of its own, in an empty folder, with a limit of time.

    The process is forked, so that anomalib, which takes long to import, is imported once.
    """
    # Everything slow to import, before the fork; nothing is computed, so no threads are lost by it.
    import anomalib.engine
    import anomalib.models.image  # noqa: F401

    import export.member_check  # noqa: F401
    import oneclass.from_anomalib.member  # noqa: F401

    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(name, folder, sender))
        process.start()
        sender.close()
        outcome: dict[str, Any] = {"trains": False, "why": f"not done within {seconds} s on this machine"}
        if receiver.poll(seconds):
            try:
                outcome = receiver.recv()
            except EOFError:
                process.join()
                outcome["why"] = f"its process ended with {process.exitcode}"
        else:
            process.kill()
        process.join()
        left = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())
    extra = [path for path in left if path != "member.npz" and not path.startswith(_TEXTURES)]
    if extra:
        outcome["why"] += f" (left files: {', '.join(extra[:3])})"
    return outcome


def _work(name: str, folder: str, sender: Any) -> None:
    os.chdir(folder)
    try:
        sender.send(try_model(name))
    except Exception as error:  # one model's failure is a row of the table
        sender.send({"trains": False, "why": f"{type(error).__name__}: {error}"})


def as_markdown(outcomes: dict[str, dict[str, Any]]) -> str:
    """The page of the documentation."""
    lines = [
        "# anomalib's image models as members",
        "",
        f"Every image model of anomalib {version('anomalib')} is a member type, `anomalib:<name>`. This "
        "table is made by `python -m benchmarks.anomalib_models`:",
        f"each model sees {_NORMAL} made-up images of {_SIDE} px for one epoch. It says what works, not "
        "how well: that takes real images and pre-trained weights.",
        "",
        "*trains* through anomalib's Engine; *scores* raw and finite; *saves* without pickle and scores the "
        "same when restored; *exports* to ONNX, runs there at",
        "batches 1 and 3 and repeats its scores. A member that does not export is used up to the stacker: "
        "`ensemble` measures with it and says that there is no file.",
        "",
        "| `anomalib:` | tried with | trains | scores | saves | exports | why not |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, outcome in sorted(outcomes.items()):
        marks = ["yes" if outcome.get(key) else "no" for key in _STEPS]
        why = _short(outcome["why"])
        lines.append(f"| `{name}` | {_tried_with(outcome)} | {' | '.join(marks)} | {why} |")
    done = [sum(bool(o.get(key)) for o in outcomes.values()) for key in _STEPS]
    lines += [
        "",
        f"Of {len(outcomes)} models {done[0]} train here, {done[1]} score, {done[2]} save and {done[3]} "
        "export. `random` weights are for this table only:",
        "with access to a hub, `weights: hub` is the default. *Why not* shows the beginning of the error.",
        "",
    ]
    return "\n".join(lines)


def _tried_with(outcome: dict[str, Any]) -> str:
    given = outcome.get("settings")
    if given is None:
        return ""
    words = [f"weights {given['weights']}"]
    if "image_size" in given:
        words.append(f"{given['image_size']} px")
    words += [f"{key} {value}" for key, value in given["arguments"].items()]
    return ", ".join(words)


def _short(why: str) -> str:
    plain = why.replace(str(Path.home()), "~").replace("|", "/").replace("\n", " ")
    return plain if len(plain) <= _WHY else f"{plain[:_WHY]} …"


def main() -> None:
    """Try all models, or the named ones, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="of anomalib; all image models when none is named")
    parser.add_argument("--seconds", type=int, default=420, help="limit for each model")
    parser.add_argument("--output", type=Path, default=TABLE)
    parser.add_argument("--keep", type=Path, help="JSON file of outcomes that are taken over and added to")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    from oneclass.from_anomalib.catalogue import image_models

    outcomes: dict[str, dict[str, Any]] = {}
    if arguments.keep and arguments.keep.exists():
        outcomes = json.loads(arguments.keep.read_text())
    for name in arguments.models or [name for name in image_models() if name not in outcomes]:
        started = time.perf_counter()
        outcomes[name] = try_apart(name, arguments.seconds)
        words = [key for key in _STEPS if outcomes[name].get(key)]
        console.print(
            f"{name}: {', '.join(words) or 'nothing'} ({time.perf_counter() - started:.0f} s) "
            f"{outcomes[name]['why'][:300]}"
        )
        if arguments.keep:
            arguments.keep.write_text(json.dumps(outcomes, indent=1))
    if len(outcomes) == len(image_models()):
        arguments.output.write_text(as_markdown(outcomes), encoding="utf-8")
        console.print(f"{arguments.output} written.")


if __name__ == "__main__":
    main()
