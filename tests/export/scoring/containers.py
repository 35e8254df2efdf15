"""Archives and tables of images for tests."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tests import hostile


def noise_files(count: int, start: int = 0) -> dict[str, bytes]:
    """File name → a small readable PNG, each of another brightness."""
    numbers = range(start, start + count)
    return {f"{index:04d}.png": hostile.encode(hostile.noise(index, 16, 16), "PNG") for index in numbers}


def tar_bytes(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """A tar file of plain members; a TarInfo stands for a member without content, such as a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_tar(path: Path, files: Mapping[str, bytes | tarfile.TarInfo]) -> Path:
    """Write :func:`tar_bytes` to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(files))
    return path


def write_zip(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip archive of plain members, the same bytes each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return path
