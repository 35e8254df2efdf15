"""From a spec and a data directory to the list of image files with their labels."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contracts.errors import DataError
from imagedata.decode import IMAGE_SUFFIXES
from imagedata.packed import pack_file, packed_labels, packed_path, positions_of_class
from imagedata.spec import ClassFolders, DataSpec, LabelTable, Layout, Packed

Split = Literal["train", "test"]


@dataclass(frozen=True)
class ListedImage:
    """One file of a data set, not opened yet.

    Attributes:
        path: relative to the set's root, with forward slashes.
        label: class name.
        split: ``train`` (the pool that folds and held-out rows are drawn from) or ``test`` (held out by
            the data set itself).
    """

    path: str
    label: str
    split: Split


def image_files(folder: Path) -> Iterator[Path]:
    """Yield files below ``folder`` that are named like images, sorted; hidden ones are left out.

    Links to folders are not followed, so that a loop of links cannot trap the walk.

    Raises:
        DataError: a folder cannot be read, or a name is not text; either would silently cost images.
    """

    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise DataError(
                f"{error.filename}: cannot be read: {error.strerror}. Make it readable."
            ) from error

    for current, folders, files in os.walk(folder, onerror=unreadable, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                path = Path(current) / name
                try:
                    str(path).encode()
                except UnicodeEncodeError:
                    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
                    raise DataError(f"{shown}: its name is not UTF-8. Rename it (convmv can).") from None
                yield path


def find_root(spec: DataSpec, data_dir: Path | None) -> Path:
    """Return the folder that the paths of a data set are relative to.

    Raises:
        DataError: no candidate holds the set; the message shows the expected tree.
    """
    layout = spec.layout
    if isinstance(layout, Packed):
        return _pack_root(spec, layout, data_dir)
    if isinstance(layout, LabelTable) and layout.package:
        try:
            found = importlib.util.find_spec(layout.package)
        except (ImportError, ValueError):  # a.b where a is missing, or no name at all
            found = None
        if found is None or not found.submodule_search_locations:
            raise DataError(
                f"{spec.name}: the package '{layout.package}' is not installed. Get it with: {spec.source}."
            )
        base = Path(next(iter(found.submodule_search_locations)))
        needed = [layout.table]
    else:
        if data_dir is None:
            raise DataError(
                f"{spec.name}: no data directory given. Use --data DIR or set OUTNUMBERED_DATA; "
                f"below it is expected:\n{expected_tree(spec)}"
            )
        base = data_dir
        needed = _needed_paths(layout, spec)
    candidates = [base / root for root in layout.roots]
    for candidate in candidates:
        if all((candidate / path).exists() for path in needed):
            return candidate
    for candidate in candidates:
        # A root that holds a part of the tree is what the user meant: say which part is missing.
        missing = [path for path in needed if not (candidate / path).exists()]
        if len(missing) < len(needed):
            raise DataError(
                f"{spec.name}: {candidate} lacks {', '.join(missing)}. Expected:\n{expected_tree(spec)}"
            )
    raise DataError(
        f"{spec.name}: not found below {base}. Get it from {spec.source or 'its owner'}; "
        f"expected:\n{expected_tree(spec)}"
    )


def _pack_root(spec: DataSpec, layout: Packed, data_dir: Path | None) -> Path:
    """The first root that holds all files of a pack; an absolute one needs no data directory."""
    needed = _needed_paths(layout, spec)
    candidates = [Path(root) for root in layout.roots if Path(root).is_absolute()]
    if data_dir is not None:
        candidates = [data_dir / root for root in layout.roots]  # which leaves an absolute one as it is
    for candidate in candidates:
        missing = [name for name in needed if pack_file(candidate, name) is None]
        if not missing:
            return candidate
        if len(missing) < len(needed):
            raise DataError(
                f"{spec.name}: {candidate} lacks {', '.join(missing)}. Expected:\n{expected_tree(spec)}"
            )
    where = f"not found in {', '.join(map(str, candidates))}" if candidates else "no data directory given"
    raise DataError(
        f"{spec.name}: {where}. Get it from {spec.source or 'its owner'}, and say with --data DIR or "
        f"OUTNUMBERED_DATA where it lies; below DIR is expected:\n{expected_tree(spec)}"
    )


def _needed_paths(layout: Layout, spec: DataSpec) -> list[str]:
    if isinstance(layout, LabelTable):
        return [layout.table]
    if isinstance(layout, Packed):
        return [*layout.train, *(layout.test or [])]
    patterns = [layout.train] + ([layout.test] if layout.test else [])
    return [_class_folder(layout, pattern, name) for pattern in patterns for name in spec.class_names]


def _class_folder(layout: ClassFolders, pattern: str, class_name: str) -> str:
    return pattern.replace("{class}", _folder_of(layout, class_name))


def expected_tree(spec: DataSpec) -> str:
    """The folders and files a spec expects, one a line, indented for a message."""
    root = spec.layout.roots[0]
    prefix = "" if root == "." else f"{root}/"
    suffix = "/*.jpg" if isinstance(spec.layout, ClassFolders) else ""
    if isinstance(spec.layout, Packed) and spec.layout.format == "idx":
        suffix = " (or .gz)"
    return "\n".join(f"  {prefix}{path}{suffix}" for path in _needed_paths(spec.layout, spec))


def list_images(spec: DataSpec, root: Path) -> list[ListedImage]:
    """List the files of a data set, sorted by split and path.

    Args:
        spec: the data set.
        root: as returned by :func:`find_root`.

    Raises:
        DataError: a class has no image at all.
    """
    if isinstance(spec.layout, ClassFolders):
        listed = list(_list_class_folders(spec, spec.layout, root))
    elif isinstance(spec.layout, Packed):
        listed = list(_list_pack(spec, spec.layout, root))
    else:
        listed = list(_list_table(spec, spec.layout, root))
    present = {(image.split, image.label) for image in listed}
    for split, place in _places(spec.layout):
        for name in spec.class_names:
            if (split, name) not in present:
                where = root / place.replace("{class}", _folder_of(spec.layout, name))
                raise DataError(
                    f"{spec.name}: class {name} has no images in {where}. Put some there "
                    f"({', '.join(sorted(IMAGE_SUFFIXES))}) or name other classes with -o classes=[...]."
                )
    return sorted(listed, key=lambda image: (image.split, image.path))


def _places(layout: Layout) -> list[tuple[Split, str]]:
    """Where the images of each split lie; a held-out split that the set brings must hold every class too."""
    if isinstance(layout, LabelTable):
        return [("train", layout.table)]
    if isinstance(layout, Packed):
        held_out: list[tuple[Split, str]] = [("test", layout.test[-1])] if layout.test else []
        return [("train", layout.train[-1]), *held_out]
    places: list[tuple[Split, str]] = [("train", layout.train)]
    return [*places, ("test", layout.test)] if layout.test else places


def _folder_of(layout: Layout, class_name: str) -> str:
    return (
        layout.folder_of_class.get(class_name, class_name) if isinstance(layout, ClassFolders) else class_name
    )


def _list_class_folders(spec: DataSpec, layout: ClassFolders, root: Path) -> Iterator[ListedImage]:
    for split, pattern in _places(layout):
        for name in spec.class_names:
            for path in image_files(root / _class_folder(layout, pattern, name)):
                yield ListedImage(path.relative_to(root).as_posix(), name, split)


def _list_pack(spec: DataSpec, layout: Packed, root: Path) -> Iterator[ListedImage]:
    """Images by the paths that they will have once unpacked."""
    splits: tuple[Split, ...] = ("train", "test") if layout.test else ("train",)
    for split in splits:
        labels = packed_labels(layout, root, split)
        for name in spec.class_names:
            for index in positions_of_class(labels, layout.label_of_class[name]):
                yield ListedImage(packed_path(split, name, index), name, split)


def _list_table(spec: DataSpec, layout: LabelTable, root: Path) -> Iterator[ListedImage]:
    class_of_value = {value: name for name in spec.classes for value in layout.values_of_class[name]}
    table = root / layout.table
    try:
        # "utf-8-sig" drops the mark that spreadsheets put at the beginning of a file.
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: not readable as UTF-8 text: {error}. Save it as UTF-8.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(layout.separator)]
        if len(cells) != len(layout.columns):
            raise DataError(
                f"{table}, line {number}: {len(cells)} cells but {len(layout.columns)} columns "
                f"({', '.join(layout.columns)}). Mend the line or name the columns in the spec."
            )
        row = dict(zip(layout.columns, cells, strict=True))
        if row[layout.label_column] in class_of_value:
            path = table.parent / row[layout.path_column]
            if not path.is_relative_to(root):
                raise DataError(
                    f"{table}, line {number}: {path} lies outside {root}. Give paths relative to the table."
                )
            yield ListedImage(
                path.relative_to(root).as_posix(), class_of_value[row[layout.label_column]], "train"
            )
