"""Readers of the files that small public image sets come in: many images in one file.

Three formats: IDX (MNIST and its relatives), the pickled batches of CIFAR-10, and the MATLAB files of
SVHN. What a file claims is checked against what it holds before anything is taken from it, and no
pickle may name anything but a plain array.
"""

from __future__ import annotations

import gzip
import io
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from contracts.errors import DataError
from contracts.rows import LabelArray
from imagedata.decoding.shape import MIN_SIDE

PackFormat = Literal["idx", "cifar", "svhn"]
PixelArray = npt.NDArray[np.uint8]

MAX_PACK_BYTES = 1 << 30
"""Largest file that is read, and most pixels that are taken from one."""

_IDX_UNSIGNED_BYTE = 0x08
_CIFAR_SIDE, _CIFAR_ROW = 32, 3 * 32 * 32


def _refuse(path: Path, what: str) -> DataError:
    return DataError(f"{path}: {what}. Get the file again, and check it against its owner's checksum.")


def _check_size(path: Path) -> None:
    """Refuse a file that is unreadable or larger than :data:`MAX_PACK_BYTES`."""
    try:
        with path.open("rb") as handle:
            size = handle.seek(0, io.SEEK_END)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}. Make it readable.") from error
    if size > MAX_PACK_BYTES:
        raise _refuse(path, f"larger than {MAX_PACK_BYTES:,} bytes, as none of these files is")


def _whole_file(path: Path) -> bytes:
    """The file's bytes, once :func:`_check_size` has nothing against it."""
    _check_size(path)
    return path.read_bytes()


# ---- IDX


def read_idx(path: Path, dimensions: int) -> PixelArray:
    """Read an IDX file of unsigned bytes, plain or with the ending ``.gz``.

    The format: two zero bytes, the type (8 = unsigned byte), the number of dimensions, a big-endian
    32-bit size for each, then the bytes, row by row (http://yann.lecun.com/exdb/mnist).

    Args:
        path: the file.
        dimensions: 1 for labels, 3 for images.

    Returns:
        An array of that many dimensions.

    Raises:
        DataError: another magic number, truncated, longer than its header says, or not gzip.
    """
    data = _whole_file(path)
    header_bytes = 4 + 4 * dimensions
    try:
        handle: Any = gzip.GzipFile(fileobj=io.BytesIO(data)) if path.suffix == ".gz" else io.BytesIO(data)
        header = handle.read(header_bytes)
        if len(header) < header_bytes:
            raise _refuse(path, f"truncated: {len(header)} bytes, not even the header's {header_bytes}")
        if header[:4] != bytes([0, 0, _IDX_UNSIGNED_BYTE, dimensions]):
            raise _refuse(
                path,
                f"its first bytes are {header[:4].hex(' ')}, not {0:02x} {0:02x} {_IDX_UNSIGNED_BYTE:02x} "
                f"{dimensions:02x} of an IDX file with {dimensions} dimension(s) of unsigned bytes",
            )
        shape = tuple(int(size) for size in np.frombuffer(header, dtype=">u4", offset=4))
        expected = int(np.prod(shape, dtype=object))  # Python's integers: hostile sizes must not overflow
        if expected > MAX_PACK_BYTES:
            raise _refuse(path, f"its header claims {expected:,} bytes; the limit is {MAX_PACK_BYTES:,}")
        # One byte more than promised, so that a longer file is told apart without being unpacked whole.
        body = handle.read(expected + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _refuse(path, f"broken gzip file ({error})") from error
    if len(body) != expected:
        how = "truncated" if len(body) < expected else "longer than its header says"
        raise _refuse(path, f"{how}: {len(body):,} bytes after the header where it promises {expected:,}")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


# ---- CIFAR-10


class _PickledType:
    """Stands in for ``numpy.dtype`` in a pickle: remembers its code and nothing else."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def __setstate__(self, _: Any) -> None:
        """Byte order and the like do not matter for single bytes."""


class _PickledArray:
    """Stands in for ``numpy.ndarray``: keeps the state that the pickle gives it, unread."""

    state: Any = None

    def __init__(self, *_: Any) -> None:
        """Take what numpy's constructor would be given and forget it."""

    def __setstate__(self, state: Any) -> None:
        """Keep ``(version, shape, dtype, is_fortran, bytes)``."""
        self.state = state


def _latin1(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes into pickles of protocol 2: as text to be encoded."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("text in an encoding other than latin1")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledType,
    ("_codecs", "encode"): _latin1,
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows containers, numbers, text and the stand-ins above, and calls nothing else.

    Not even numpy's own constructors run on what the file says; the bytes are made an array afterwards,
    by :func:`_pixels_of`, which checks them.
    """

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return a stand-in, or refuse the name."""
        try:
            return _STAND_INS[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module_name}.{global_name}, and only plain arrays are allowed"
            ) from None


def read_cifar(path: Path) -> tuple[PixelArray, LabelArray]:
    """Read one pickled batch of CIFAR-10 (https://www.cs.toronto.edu/~kriz/cifar.html).

    Returns:
        ``[N, 32, 32, 3]`` pixels and ``[N]`` labels.

    Raises:
        DataError: no such batch, damaged, or with anything in it but arrays, lists, numbers and text.
    """
    try:
        batch = _ArraysOnly(io.BytesIO(_whole_file(path)), encoding="bytes").load()
    except DataError:
        raise
    except Exception as error:  # hostile bytes make an unpickler raise nearly anything
        raise _refuse(path, f"not a CIFAR batch: {str(error)[:200] or type(error).__name__}") from error
    if not isinstance(batch, dict):
        raise _refuse(path, f"not a CIFAR batch: it holds a {type(batch).__name__}, not a dictionary")
    fields = {k.decode("latin1") if isinstance(k, bytes) else k: value for k, value in batch.items()}
    labels = fields.get("labels")
    if not isinstance(labels, list) or not all(type(x) is int and 0 <= x < 256 for x in labels):
        raise _refuse(path, "not a CIFAR batch: 'labels' is no list of small numbers")
    rows = _pixels_of(path, fields.get("data"), len(labels))
    images = rows.reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(labels, dtype=np.int64)


def _pixels_of(path: Path, array: Any, n_rows: int) -> PixelArray:
    """``[N, 3072]`` bytes of the stand-in for the batch's array, checked against what it claims."""
    state = getattr(array, "state", None)
    if not (isinstance(array, _PickledArray) and isinstance(state, tuple) and len(state) == 5):
        raise _refuse(path, "not a CIFAR batch: 'data' is no array")
    _, shape, kind, is_fortran, data = state
    if not isinstance(kind, _PickledType) or kind.code not in {"u1", "|u1"} or is_fortran:
        raise _refuse(path, "not a CIFAR batch: 'data' is no array of unsigned bytes in row order")
    if shape != (n_rows, _CIFAR_ROW) or not isinstance(data, bytes) or len(data) != n_rows * _CIFAR_ROW:
        raise _refuse(path, f"'data' does not hold {n_rows} rows of {_CIFAR_ROW} bytes, one a label")
    return np.frombuffer(data, dtype=np.uint8).reshape(n_rows, _CIFAR_ROW)


# ---- SVHN


def _matlab(path: Path, names: list[str]) -> dict[str, npt.NDArray[Any]]:
    from scipy.io import loadmat

    _check_size(path)
    try:
        found = loadmat(str(path), appendmat=False, variable_names=names)
    except Exception as error:  # scipy raises many types on damaged files
        raise _refuse(path, f"not a readable MATLAB file: {str(error)[:200]}") from error
    missing = [name for name in names if not isinstance(found.get(name), np.ndarray)]
    if missing:
        raise _refuse(path, f"it holds no array '{missing[0]}'")
    return {name: found[name] for name in names}


def read_svhn_labels(path: Path) -> LabelArray:
    """``[N]`` digits of a cropped-digits file of SVHN (http://ufldl.stanford.edu/housenumbers).

    The file calls the digit 0 "10"; it is 0 here.

    Raises:
        DataError: no such file, or labels outside 0…10.
    """
    y = _matlab(path, ["y"])["y"].ravel()
    if y.dtype.kind not in "ui" or not ((y >= 0) & (y <= 10)).all():
        raise _refuse(path, "its labels 'y' are no digits from 0 to 10")
    return np.asarray(y, dtype=np.int64) % 10


def read_svhn(path: Path) -> tuple[PixelArray, LabelArray]:
    """``[N, 32, 32, 3]`` pixels and ``[N]`` digits.

    Raises:
        DataError: as :func:`read_svhn_labels`, or pixels of another shape or type.
    """
    labels = read_svhn_labels(path)
    pixels = _matlab(path, ["X"])["X"]
    if pixels.dtype != np.uint8 or pixels.shape != (_CIFAR_SIDE, _CIFAR_SIDE, 3, len(labels)):
        raise _refuse(
            path,
            f"its pixels 'X' are {pixels.dtype} {list(pixels.shape)}, not uint8 [32, 32, 3, {len(labels)}]",
        )
    return np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), labels


# ---- all three behind one face


def read_labels(kind: PackFormat, files: list[Path]) -> LabelArray:
    """``[N]`` label values of a split, without its pixels where the format allows."""
    if kind == "idx":
        return read_idx(files[1], 1).astype(np.int64)
    one: Callable[[Path], LabelArray] = read_svhn_labels if kind == "svhn" else lambda p: read_cifar(p)[1]
    return np.concatenate([one(path) for path in files])


def read_images(kind: PackFormat, files: list[Path]) -> tuple[PixelArray, LabelArray]:
    """``[N, H, W]`` (grey) or ``[N, H, W, 3]`` pixels and ``[N]`` label values of a split.

    Args:
        kind: of the files.
        files: images and labels, in this order, for ``idx``; one file or more for the others.

    Raises:
        DataError: a file is not what its format promises, or images and labels differ in number.
    """
    if kind == "idx":
        images, values = read_idx(files[0], 3), read_idx(files[1], 1)
        if len(images) != len(values):
            raise _refuse(files[1], f"{len(values)} labels, but {len(images)} images in {files[0].name}")
        if min(images.shape[1:]) < MIN_SIDE:
            raise _refuse(files[0], f"images of {images.shape[2]}x{images.shape[1]} pixels are too small")
        return images, values.astype(np.int64)
    parts = [read_svhn(path) if kind == "svhn" else read_cifar(path) for path in files]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
