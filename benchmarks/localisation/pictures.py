"""Trees laid out as MVTec AD is: real pictures, some of them damaged where a mask says so.

No set with masks may be handed on with this project, and few lie on a machine by chance. The pictures here
are real (photographs of textures, aligned screws, steel, solar cells); the damage is drawn, of five kinds
that differ in what gives them away: a thin line, a small blot, a wide faint stain, a patch of the picture
itself in a wrong place (after CutPaste, Li et al. 2021, https://arxiv.org/abs/2104.04015), and lost
sharpness. Contrast varies from one image to the next, down to what is hard to see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from contracts.errors import DataError, UsageError, nearest_match

Picture = npt.NDArray[np.float32]
"""``[S, S]`` grey values, 0…255."""
Mask = npt.NDArray[np.bool_]
Damage = Callable[[np.random.Generator, Picture], tuple[Picture, Mask]]

SIDE = 224
_CROP = 160  # of a texture, enlarged: a crop of a whole texture would hardly vary
_LEAST_CHANGE = 4.0  # grey levels, the mean over the mask
_TEXTURES = ("gravel", "brick", "grass")
SETS = (*_TEXTURES, "screws", "steel", "cells")
"""Where pictures come from: three photographs of scikit-image's, two sets of files, and a package."""


def write_tree(
    data: Path | None, into: Path, name: str, seed: int, *, normal: int, held_out: int, defects: int
) -> None:
    """Write ``train/good``, ``test/good``, ``test/<kind>`` and ``ground_truth/<kind>``.

    Args:
        data: the directory that ``--data`` names; textures and solar cells need none.
        into: root of the tree.
        name: one of :data:`SETS`.
        seed: of which pictures are used for what, and of the damage.
        normal: training images at most; a set with fewer pictures gives what it has.
        held_out: normal test images.
        defects: images of each kind.

    Raises:
        UsageError: no such set.
        DataError: its pictures are not there, or too few.
    """
    if name not in SETS:
        raise UsageError(f"--sets {name}: no such set.{nearest_match(name, SETS)} Known: {', '.join(SETS)}.")
    rng = np.random.default_rng([seed, SETS.index(name)])
    n_tested = held_out + defects * len(KINDS)
    train, test = _pictures(data, name, rng, normal, n_tested)

    def save(path: Path, pixels: npt.NDArray[np.floating]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(path)

    for number, picture in enumerate(train):
        save(into / "train" / "good" / f"{number:03d}.png", picture)
    for number, picture in enumerate(test[:held_out]):
        save(into / "test" / "good" / f"{number:03d}.png", picture)
    for place, kind in enumerate(KINDS):
        of_kind = test[held_out + place * defects :][:defects]
        for number, picture in enumerate(of_kind):
            damaged, mask = _damaged(rng, picture, KINDS[kind])
            save(into / "test" / kind / f"{number:03d}.png", damaged)
            save(into / "ground_truth" / kind / f"{number:03d}_mask.png", mask * 255.0)


def _damaged(rng: np.random.Generator, picture: Picture, damage: Damage) -> tuple[Picture, Mask]:
    """A picture damaged so that it can be seen: a blurred piece of plain background is no defect."""
    while True:
        damaged, mask = damage(rng, picture)
        if np.abs(damaged - picture)[mask].mean() >= _LEAST_CHANGE:
            return np.clip(damaged, 0, 255), mask


def _pictures(
    data: Path | None, name: str, rng: np.random.Generator, n_train: int, n_test: int
) -> tuple[list[Picture], list[Picture]]:
    """Pictures to learn from and pictures to test on.

    They are different pictures, but for textures, of which there is one each: there they are crops from
    anywhere, which may overlap. Were test crops from another part of it, the damaged ones that are moved into
    training would differ from the normal ones by the part, and members would learn that.
    """
    if name in _TEXTURES:
        from skimage import data as textures

        whole = np.asarray(getattr(textures, name)())
        grey = whole if whole.ndim == 2 else whole.mean(axis=2)
        found = [_crop(rng, grey) for _ in range(n_train + n_test)]
        return found[n_test:], found[:n_test]
    files = _cells() if name == "cells" else _files(data, name)
    if len(files) < n_test + 20:
        raise DataError(f"{name}: {len(files)} pictures; it takes {n_test + 20}. Use fewer --defects.")
    order = rng.permutation(len(files))[: n_train + n_test]
    found = [_read(files[place]) for place in order]
    return found[n_test:], found[:n_test]


def _files(data: Path | None, name: str) -> Sequence[Path]:
    folders = {
        "screws": ("screws_small/train/good", "screws_small/test/good"),
        "steel": ("neu/rolled-in_scale",),
    }[name]
    if data is None:
        raise DataError(f"{name}: its pictures lie in {folders[0]}. Name the directory above with --data.")
    found = sorted(path for folder in folders for path in (data / folder).glob("*.*"))
    if not found:
        raise DataError(f"{name}: no pictures in {data / folders[0]}.")
    return found


def _cells() -> Sequence[npt.NDArray[np.uint8]]:
    """Solar cells that all who looked at them called whole."""
    try:
        from elpv_dataset.utils import load_dataset
    except ImportError as error:
        raise DataError("cells: their pictures come in a package. Give: pip install elpv-dataset") from error
    images, probability, _ = load_dataset()
    return [image for image, p in zip(images, probability, strict=True) if p == 0.0]


def _read(source: Path | npt.NDArray[np.uint8]) -> Picture:
    image = Image.open(source).convert("L") if isinstance(source, Path) else Image.fromarray(source)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32)


def _crop(rng: np.random.Generator, texture: npt.NDArray[np.floating]) -> Picture:
    """Somewhere in the texture, mirrored at random, a little lighter or darker."""
    top, left = (int(rng.integers(side - _CROP + 1)) for side in texture.shape)
    crop = texture[top : top + _CROP, left : left + _CROP].astype(np.uint8)
    picture = _read(crop[:, ::-1] if rng.random() < 0.5 else crop)
    return (picture * rng.uniform(0.95, 1.05)).clip(0, 255).astype(np.float32)


def _place(rng: np.random.Generator, margin: float) -> tuple[float, float]:
    x, y = rng.uniform(margin, SIDE - margin, 2)
    return float(x), float(y)


def _drawn(shape: Callable[[ImageDraw.ImageDraw], object]) -> Mask:
    canvas = Image.new("L", (SIDE, SIDE))
    shape(ImageDraw.Draw(canvas))
    return np.asarray(canvas) > 0


def _contrast(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high) * rng.choice([-1.0, 1.0]))


def _scratch(rng: np.random.Generator, picture: Picture) -> tuple[Picture, Mask]:
    (x, y), angle, bend = _place(rng, 50), rng.uniform(0, np.pi), rng.uniform(-12, 12)
    length, width = rng.uniform(18, 42), int(rng.integers(2, 5))
    dx, dy = length * np.cos(angle), length * np.sin(angle)
    middle = (x - bend * np.sin(angle), y + bend * np.cos(angle))
    points = [(x - dx, y - dy), middle, (x + dx, y + dy)]
    mask = _drawn(lambda draw: draw.line(points, fill=255, width=width, joint="curve"))
    return (picture + mask * _contrast(rng, 25, 80)).astype(np.float32), mask


def _blot(rng: np.random.Generator, picture: Picture) -> tuple[Picture, Mask]:
    (x, y), (a, b) = _place(rng, 24), rng.uniform(4, 11, 2)
    mask = _drawn(lambda draw: draw.ellipse((x - a, y - b, x + a, y + b), fill=255))
    share = np.float32(rng.uniform(0.4, 0.9))
    tone = np.float32(np.clip(picture.mean() + _contrast(rng, 30, 90), 0, 255))
    return np.where(mask, (1 - share) * picture + share * tone, picture).astype(np.float32), mask


def _stain(rng: np.random.Generator, picture: Picture) -> tuple[Picture, Mask]:
    (x, y), (a, b) = _place(rng, 50), rng.uniform(18, 36, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = np.clip(1.0 - ((columns - x) / a) ** 2 - ((rows - y) / b) ** 2, 0.0, 1.0)
    # Marked where it is at least a quarter as strong as in its middle: beyond, nobody would see it.
    return picture + (inside * _contrast(rng, 20, 45)).astype(np.float32), inside > 0.25


def _misplaced(rng: np.random.Generator, picture: Picture) -> tuple[Picture, Mask]:
    width, height = (int(side) for side in rng.integers(18, 44, 2))
    (x, y), (from_x, from_y) = (
        (int(rng.integers(8, SIDE - 8 - width)), int(rng.integers(8, SIDE - 8 - height))) for _ in range(2)
    )
    piece = picture[from_y : from_y + height, from_x : from_x + width][::-1, ::-1]
    changed, mask = picture.copy(), np.zeros(picture.shape, dtype=np.bool_)
    changed[y : y + height, x : x + width] = piece + _contrast(rng, 0, 12)
    mask[y : y + height, x : x + width] = True
    return changed, mask


def _blurred(rng: np.random.Generator, picture: Picture) -> tuple[Picture, Mask]:
    (x, y), (a, b) = _place(rng, 36), rng.uniform(14, 30, 2)
    mask = _drawn(lambda draw: draw.ellipse((x - a, y - b, x + a, y + b), fill=255))
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(float(rng.uniform(3, 6)))), dtype=np.float32)
    return np.where(mask, soft, picture), mask


KINDS: dict[str, Damage] = {
    "scratch": _scratch,
    "blot": _blot,
    "stain": _stain,
    "misplaced": _misplaced,
    "blurred": _blurred,
}
"""Kinds of damage by name; each takes a picture and gives it damaged, and where."""
