"""Files that are either whole or absent: write to a temporary name, flush, rename.

After ``kill -9`` at any moment a reader sees the old file or the new one, never half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary neighbour of ``path`` for writing and rename it to ``path`` on success.

    Args:
        path: the final name; its folder is made when missing.

    Yields:
        A binary file handle. On an exception the temporary file is removed and ``path`` untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id keeps two writers of the same file apart; the leading dot hides it from readers.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as handle:
            yield handle
            handle.flush()
            # Data first, name second: without the flush a power cut could leave the new name with no content.
            os.fsync(handle.fileno())
        # replace, not rename: on Windows rename refuses an existing target.
        temporary.replace(path)
    # BaseException, so that Ctrl+C leaves no temporary file behind either.
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: the folder's entry is data of the folder, not of the file."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path``, whole or not at all."""
    with atomic_writer(path) as handle:
        handle.write(text.encode("utf-8"))


def write_json(path: Path, document: Any) -> None:
    """Write ``document`` as indented JSON with sorted keys, so that equal content gives equal bytes."""
    write_text(path, json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON document written by :func:`write_json`."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_arrays(path: Path, arrays: Arrays, meta: dict[str, Any]) -> None:
    """Write named arrays and a JSON header into one ``.npz``; nothing is pickled.

    Args:
        path: target, by convention ending in ``.npz``.
        arrays: name → array of a plain dtype (no objects).
        meta: JSON-serialisable facts, stored under the reserved name ``__meta__``.
    """
    # NumPy's archives hold arrays only, so the JSON header travels as an array of bytes.
    header = np.frombuffer(json.dumps(meta, sort_keys=True).encode("utf-8"), dtype=np.uint8)
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{path}: array '{name}' holds Python objects and would need pickle.")
    with atomic_writer(path) as handle:
        np.savez(handle, allow_pickle=False, __meta__=header, **arrays)


def read_arrays(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Read what :func:`write_arrays` wrote; refuses pickled content.

    Returns:
        The arrays by name, and the JSON header.
    """
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "__meta__"}
        meta = json.loads(archive["__meta__"].tobytes().decode("utf-8"))
    return arrays, meta


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_of(document: Any) -> str:
    """Short hex digest (16 characters) of a JSON-serialisable document; equal content, equal digest."""
    # Sorted keys and fixed separators: equal documents must give equal text before they can give equal
    # digests.
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:16]
