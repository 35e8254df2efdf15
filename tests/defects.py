"""A category laid out as MVTec AD is, with masks: crops of a texture of scikit-image's, some damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 96
KINDS = ("scratch", "spot")


def _crop(rng: np.random.Generator, texture: np.ndarray) -> np.ndarray:
    """``[96, 96, 3]`` float: somewhere in the texture, mirrored at random, a little lighter or darker."""
    top, left = (int(rng.integers(texture.shape[0] - SIDE)) for _ in range(2))
    crop = texture[top : top + SIDE, left : left + SIDE].astype(np.float64)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    grey = np.clip(crop * rng.uniform(0.92, 1.08) + rng.normal(0, 2, crop.shape), 0, 255)
    return grey[:, :, None].repeat(3, axis=2)


def _damaged(rng: np.random.Generator, pixels: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The picture with a defect, and its ``[96, 96]`` mask."""
    canvas = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(canvas)
    x, y = rng.uniform(24, SIDE - 24, 2)
    if kind == "scratch":
        angle = rng.uniform(0, np.pi)
        dx, dy = 20 * np.cos(angle), 20 * np.sin(angle)
        draw.line((x - dx, y - dy, x + dx, y + dy), fill=255, width=5)
    else:
        draw.ellipse((x - 9, y - 7, x + 9, y + 7), fill=255)
        draw.ellipse((x - 21, y + 10, x - 14, y + 16), fill=255)
    mask = np.asarray(canvas) > 0
    colour = (235, 225, 190) if kind == "scratch" else (60, 25, 20)
    pixels = pixels.copy()
    pixels[mask] = 0.15 * pixels[mask] + 0.85 * np.array(colour)
    return pixels, mask


def write_mvtec_tree(
    data: Path, category: str = "tile", normal: int = 60, held_out: int = 24, defects: int = 16, seed: int = 0
) -> Path:
    """Write ``data/mvtec/<category>``: ``train/good``, ``test/good``, two kinds of defects and their masks.

    Args:
        data: the directory that ``--data`` names.
        category: one of MVTec AD's names.
        normal: training images.
        held_out: normal images in ``test``.
        defects: images of each kind.
        seed: of everything.
    """
    from skimage import data as pictures

    texture, rng = pictures.gravel(), np.random.default_rng(seed)
    root = data / "mvtec" / category

    def save(path: Path, pixels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(path)

    for place, count in (("train", normal), ("test", held_out)):
        for number in range(count):
            save(root / place / "good" / f"{number:03d}.png", _crop(rng, texture))
    for kind in KINDS:
        for number in range(defects):
            pixels, mask = _damaged(rng, _crop(rng, texture), kind)
            save(root / "test" / kind / f"{number:03d}.png", pixels)
            save(root / "ground_truth" / kind / f"{number:03d}_mask.png", mask * 255.0)
    return root
