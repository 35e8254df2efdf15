"""Made-up packs in the formats that MNIST, CIFAR-10 and SVHN come in."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def squares(labels: np.ndarray, seed: int, side: int = 20) -> np.ndarray:
    """``[N, side, side]`` grey images in noise, with a bright square whose place is the class's."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 90, size=(len(labels), side, side))
    third = side // 3
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 3)
        image[row * third : (row + 1) * third, column * third : (column + 1) * third] += 140
    return images.astype(np.uint8)


def write_idx_pack(
    folder: Path, train: tuple[int, ...], test: tuple[int, ...], *, seed: int = 0, compressed: bool = False
) -> Path:
    """Write training and test images of as many classes as there are counts, in a mixed order."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, counts in (("train", train), ("test", test)):
        rng = np.random.default_rng([seed, len(split)])
        labels = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.uint8)
        images = squares(labels, seed + len(split))
        for name, array in zip(IDX_FILES[split], (images, labels), strict=True):
            data = idx_bytes(array)
            path = folder / (f"{name}.gz" if compressed else name)
            path.write_bytes(gzip.compress(data) if compressed else data)
    return folder


def cifar_batch(images: np.ndarray, labels: list[int]) -> bytes:
    """The pickle that Python 2 wrote of a CIFAR-10 batch, opcode by opcode.

    Args:
        images: ``[N, 32, 32, 3]`` uint8.
        labels: one per image.
    """
    data = images.transpose(0, 3, 1, 2).tobytes()
    return (
        b"\x80\x02}("
        b"U\x0bbatch_labelU\x15training batch 1 of 5"
        b"U\x06labels](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
        b"U\x04datacnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        b"M" + struct.pack("<H", len(images)) + b"M" + struct.pack("<H", 3072) + b"\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<I", len(data)) + data + b"tb"
        b"u."
    )
