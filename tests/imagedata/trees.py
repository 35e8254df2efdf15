"""Made-up trees in the layouts of public image sets, and what becomes of them."""

from pathlib import Path

import numpy as np
from PIL import Image

from imagedata.decoding.decode import DecodeSettings
from imagedata.inspection import inspect_file
from imagedata.manifest import Manifest, build_manifest
from imagedata.resolve import resolve_dataset
from imagedata.spec import DataSpec


def noise(path: Path, seed: int, side: int = 12) -> Path:
    """Write a small picture that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def spec_of(name: str, **changes: object) -> DataSpec:
    """A spec by the name or path on a command line, with keys changed."""
    return DataSpec.model_validate({**resolve_dataset(str(name)).document, **changes})


def manifest_of(spec: DataSpec, data_dir: Path | None, seed: int = 0) -> Manifest:
    """The manifest of a set whose images are files."""
    root = spec.find(data_dir)
    listed = spec.list_images(root)
    found = {image.path: inspect_file(root / image.path, DecodeSettings(32)) for image in listed}
    return build_manifest(spec, root, listed, found, seed)


def idc_tree(root: Path, patients: int = 8, patches: int = 10) -> Path:
    """Patients with some patches of each class, named as the real ones are."""
    for number in range(patients):
        patient = 10253 + number
        for index in range(patches):
            label = int(index % 5 == number % 5)
            name = f"{patient}_idx5_x{50 * index + 1}_y{50 * number + 1}_class{label}.png"
            noise(root / str(patient) / str(label) / name, 1000 * number + index)
    return root


def mvtec_tree(root: Path, normal: int = 12, held_out: int = 5, kinds: tuple[int, ...] = (4, 7)) -> Path:
    """A category of MVTec AD with masks."""
    for index in range(normal):
        noise(root / "train" / "good" / f"{index:03d}.png", index)
    for index in range(held_out):
        noise(root / "test" / "good" / f"{index:03d}.png", 500 + index)
    for kind, count in enumerate(kinds):
        for index in range(count):
            noise(root / "test" / f"kind_{kind}" / f"{index:03d}.png", 1000 * (kind + 1) + index)
            noise(root / "ground_truth" / f"kind_{kind}" / f"{index:03d}_mask.png", 7)
    return root
