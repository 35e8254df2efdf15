"""Small pictures in classes, and settings that fit an autoencoder to them within a second."""

from __future__ import annotations

import numpy as np

from supervised.synthetic.settings import SyntheticSettings

SMALL = {"width": 4, "latent_dim": 8, "epochs": 2, "batch_size": 16, "learning_rate": 1e-3}


def small(**settings) -> SyntheticSettings:
    return SyntheticSettings(**{**SMALL, **settings})


def pictures(counts: tuple[int, ...], seed: int = 0, side: int = 32):
    """``[n, side, side, 3]`` uint8 and ``[n]`` labels: each class has a bright bar elsewhere."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    images = rng.normal(60.0, 15.0, size=(len(labels), side, side, 3))
    for row, label in enumerate(labels):
        start = 4 + 8 * label
        images[row, start : start + 5, 4 : 20 + row % 8] += 120.0
    return images.clip(0, 255).astype(np.uint8), labels
