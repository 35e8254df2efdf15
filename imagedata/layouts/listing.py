"""From a spec and a data directory to the list of image files with their labels."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from contracts.errors import DataError
from imagedata.decoding.decode import IMAGE_SUFFIXES
from imagedata.hub import hub_root
from imagedata.layouts.anomaly_folders import list_anomaly_folders
from imagedata.layouts.kinds import (
    AnomalyFolders,
    ClassFolders,
    HubSource,
    ImageList,
    LabelTable,
    Layout,
    Packed,
    Shards,
)
from imagedata.layouts.one_image import ListedImage, Split, image_files, matching_paths
from imagedata.layouts.packed import pack_file, packed_labels, packed_path, positions_of_class
from imagedata.layouts.shards import list_shards
from imagedata.layouts.tables import list_rows, list_table, read_list, root_of_list
from imagedata.spec import DataSpec

__all__ = ["ListedImage", "Split", "expected_tree", "find_root", "image_files", "list_images"]


def find_root(spec: DataSpec, data_dir: Path | None, *, fetch: bool = True) -> Path:
    """Return the folder that the paths of a data set are relative to.

    Args:
        spec: the data set.
        data_dir: where data sets lie.
        fetch: fetch a set of the hub that the hub's cache does not hold.

    Raises:
        DataError: no candidate holds the set; the message shows the expected tree.
    """
    layout = spec.layout
    if isinstance(layout, Packed):
        return _pack_root(spec, layout, data_dir)
    if isinstance(layout, Shards) and layout.hub is not None:
        return _fetched_root(spec, layout, layout.hub, fetch=fetch)
    if isinstance(layout, ImageList) and Path(layout.table).is_absolute():
        table = Path(layout.table)
        if not table.is_file():
            raise DataError(f"{spec.name}: the list {table} is gone. Put it back, or name another.")
        return root_of_list(table, read_list(layout, table))
    if isinstance(layout, LabelTable) and layout.package:
        base = _package_folder(spec, layout.package)
        needed = [layout.table]
    else:
        needed = _needed_paths(layout, spec)
        if data_dir is None and not all(Path(root).is_absolute() for root in layout.roots):
            raise DataError(
                f"{spec.name}: no data directory given. Use --data DIR or set OUTNUMBERED_DATA; get the set "
                f"from {spec.source or 'its owner'}; below DIR is expected:\n{expected_tree(spec)}"
            )
        base = data_dir or Path()
    candidates = [base / root for root in layout.roots]  # which leaves an absolute one as it is
    for candidate in candidates:
        if all(_is_there(candidate, path) for path in needed):
            return candidate
    for candidate in candidates:
        # A root that holds a part of the tree is what the user meant: say which part is missing.
        missing = [path for path in needed if not _is_there(candidate, path)]
        if len(missing) < len(needed):
            raise DataError(
                f"{spec.name}: {candidate} lacks {', '.join(missing)}. Get it from "
                f"{spec.source or 'its owner'}. Expected:\n{expected_tree(spec)}"
            )
    raise DataError(
        f"{spec.name}: not found below {base}. Get it from {spec.source or 'its owner'}; "
        f"expected:\n{expected_tree(spec)}"
    )


def _package_folder(spec: DataSpec, package: str) -> Path:
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a.b where a is missing, or no name at all
        found = None
    if found is None or not found.submodule_search_locations:
        raise DataError(
            f"{spec.name}: the package '{package}' is not installed. Get it with: {spec.source}; "
            f"expected:\n{expected_tree(spec)}"
        )
    return Path(next(iter(found.submodule_search_locations)))


def _fetched_root(spec: DataSpec, layout: Shards, source: HubSource, *, fetch: bool) -> Path:
    root = hub_root(spec.name, layout, fetch=fetch)
    missing = [path for path in _needed_paths(layout, spec) if not _is_there(root, path)]
    if missing:
        raise DataError(
            f"{spec.name}: {source.name} at revision {source.revision} on the hub has no "
            f"{', '.join(missing)}. Look at its files there, and name them in layout.train and layout.test."
        )
    return root


def _is_there(root: Path, pattern: str) -> bool:
    """Whether a path, or one that its parts with ``*`` stand for, exists below a root."""
    return next(matching_paths(root, pattern), None) is not None


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
    if isinstance(layout, LabelTable | ImageList):
        return [layout.table]
    if isinstance(layout, Packed | Shards):
        return [*layout.train, *(layout.test or [])]
    if isinstance(layout, AnomalyFolders):
        return [f"{layout.train}/{layout.normal}", f"{layout.test}/{layout.normal}"]
    patterns = [layout.train, *filter(None, (layout.test, layout.region_masks))]
    return [_class_folder(layout, pattern, name) for pattern in patterns for name in spec.class_names]


def _class_folder(layout: ClassFolders, pattern: str, class_name: str) -> str:
    return pattern.replace("{class}", _folder_of(layout, class_name))


def expected_tree(spec: DataSpec) -> str:
    """The folders and files a spec expects, one a line, indented for a message."""
    if spec.tree:
        return "\n".join(f"  {line}" for line in spec.tree)
    root = spec.layout.roots[0]
    prefix = "" if root == "." else f"{root}/"
    if isinstance(spec.layout, Shards) and spec.layout.hub is not None:
        prefix = f"{spec.layout.hub.name} on the hub: "
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
    listed = list(_listed(spec, spec.layout, root))
    present = {(image.split, image.label) for image in listed}
    for split, place in _places(spec.layout, {image.split for image in listed}):
        for name in spec.class_names:
            if (split, name) not in present:
                where = root / place.replace("{class}", _folder_of(spec.layout, name))
                raise DataError(
                    f"{spec.name}: class {name} has no images in {where}. Put some there "
                    f"({', '.join(sorted(IMAGE_SUFFIXES))}) or name other classes with -o classes=[...]."
                )
    return sorted(listed, key=lambda image: (image.split, image.path))


def _listed(spec: DataSpec, layout: Layout, root: Path) -> Iterator[ListedImage]:
    if isinstance(layout, ClassFolders):
        return _list_class_folders(spec, layout, root)
    if isinstance(layout, AnomalyFolders):
        return list_anomaly_folders(layout, root, *spec.class_names)
    if isinstance(layout, Packed):
        return _list_pack(spec, layout, root)
    if isinstance(layout, Shards):
        return (image for image in list_shards(layout, root) if image.label in spec.classes)
    if isinstance(layout, ImageList):
        rows = list_rows(layout, root / layout.table, root)  # an absolute table stays as it is
        return (image for image in rows if image.label in spec.classes)
    return (image for image in list_table(layout, root) if image.label in spec.classes)


def _places(layout: Layout, splits: set[Split]) -> list[tuple[Split, str]]:
    """Where the images of each split lie; a test set that the set brings must hold every class too."""
    if isinstance(layout, AnomalyFolders):
        # Anomalies come to the training images later, out of the held-out ones.
        return [("test", layout.test)]
    if isinstance(layout, LabelTable):
        return [("train", layout.table)]
    if isinstance(layout, ImageList):
        of_list: list[tuple[Split, str]] = [("train", layout.table)]
        return [*of_list, ("test", layout.table)] if "test" in splits else of_list
    if isinstance(layout, Shards):
        first: tuple[Split, str] = ("train", layout.train[0])
        return [first, ("test", layout.test[0])] if layout.test else [first]
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
    for split, pattern in _places(layout, set()):
        for name in spec.class_names:
            for folder in matching_paths(root, _class_folder(layout, pattern, name)):
                for path in image_files(folder):
                    yield ListedImage(path.relative_to(root).as_posix(), name, split)


def _list_pack(spec: DataSpec, layout: Packed, root: Path) -> Iterator[ListedImage]:
    """Images by the paths that they will have once unpacked."""
    splits: tuple[Split, ...] = ("train", "test") if layout.test else ("train",)
    for split in splits:
        labels = packed_labels(layout, root, split)
        for name in spec.class_names:
            for index in positions_of_class(labels, layout.label_of_class[name]):
                yield ListedImage(packed_path(split, name, index), name, split)
