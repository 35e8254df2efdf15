"""Images, kinds of anomalies and masks of a tree laid out as MVTec AD is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from contracts.errors import DataError
from imagedata.decoding.decode import IMAGE_SUFFIXES
from imagedata.layouts.kinds import AnomalyFolders
from imagedata.layouts.one_image import ListedImage, image_files


def list_anomaly_folders(
    layout: AnomalyFolders, root: Path, normal_class: str, anomaly_class: str
) -> Iterator[ListedImage]:
    """Normal training images, normal test images, and anomalies with their kind and mask.

    Args:
        layout: of the data set.
        root: the category's folder.
        normal_class: name of the majority class.
        anomaly_class: name of the minority class.
    """
    for path in image_files(root / layout.train / layout.normal):
        yield ListedImage(path.relative_to(root).as_posix(), normal_class, "train", subtype=layout.normal)
    for kind in kinds_of_anomalies(layout, root):
        masks = _masks_by_stem(root / layout.masks / kind)
        for path in image_files(root / layout.test / kind):
            found = masks.get(path.stem) or masks.get(f"{path.stem}_mask")
            yield ListedImage(
                path=path.relative_to(root).as_posix(),
                label=anomaly_class,
                split="test",
                subtype=kind,
                mask=found.relative_to(root).as_posix() if found else None,
            )
    for path in image_files(root / layout.test / layout.normal):
        yield ListedImage(path.relative_to(root).as_posix(), normal_class, "test", subtype=layout.normal)


def kinds_of_anomalies(layout: AnomalyFolders, root: Path) -> list[str]:
    """Folders of the test images other than the normal ones', sorted.

    Raises:
        DataError: the folder cannot be read.
    """
    folder = root / layout.test
    try:
        names = [child.name for child in folder.iterdir() if child.is_dir()]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}. Make it readable.") from error
    return sorted(name for name in names if name != layout.normal and not name.startswith("."))


def _masks_by_stem(folder: Path) -> dict[str, Path]:
    """File name without its ending → mask; the folder may be missing, as it is for unlabelled kinds."""
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return {path.stem: path for path in reversed(files)}
