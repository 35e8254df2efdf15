"""Small folders of pictures in two classes whose difference is planted and visible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 48


def picture(rng: np.random.Generator, odd: bool, side: int = SIDE) -> np.ndarray:
    """``[side, side, 3]`` uint8: stripes in noise; the odd ones carry a bright blotch somewhere."""
    y, x = np.mgrid[0:side, 0:side]
    phase, level = rng.uniform(0, 6.28), rng.uniform(90, 130)
    stripes = level + 30 * np.sin(x / 4 + phase)
    pixels = np.repeat(stripes[:, :, None], 3, axis=2) + rng.normal(0, 12, (side, side, 3))
    if odd:
        centre = rng.uniform(0.3 * side, 0.7 * side, 2)
        near = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * (side / 9) ** 2))
        pixels += 150 * near[:, :, None] * np.array([1.0, 0.7, 0.2])
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_pictures(folder: Path, count: int, odd: bool, seed: int, start: int = 0) -> list[Path]:
    """Write ``count`` PNG files, all different, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, int(odd), start])
    paths = [folder / f"{number:03d}.png" for number in range(start, start + count)]
    for path in paths:
        Image.fromarray(picture(rng, odd)).save(path)
    return paths


def write_two_classes(
    folder: Path,
    majority: int,
    minority: int,
    test: int = 0,
    seed: int = 0,
    names: tuple[str, str] = ("fine", "odd"),
) -> Path:
    """Write a data set laid out class by class, with a test set of ``test`` each if asked for.

    Returns:
        ``folder``, holding ``<class>/``, or ``train/<class>/`` and ``test/<class>/``.
    """
    train = folder / "train" if test else folder
    for name, count, odd in ((names[0], majority, False), (names[1], minority, True)):
        write_pictures(train / name, count, odd, seed)
        if test:
            write_pictures(folder / "test" / name, test, odd, seed + 1000)
    return folder
