"""From a spec to the manifest of images that lie as files on this machine.

Folders and tables name files of the user's own, which are read where they lie. Images of packs and shards,
and images of which only a region is shown, are written out first; see ``materialiser`` of each layout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from imagedata.audit.corrections import Corrections, corrections_file
from imagedata.decoding.decode import DecodeSettings
from imagedata.inspection import Inspection, InspectionJournal
from imagedata.layouts.materialiser import Materialiser, Progress
from imagedata.manifest import Manifest, build_manifest
from imagedata.near_duplicates import read_near_duplicates
from imagedata.spec import DataSpec


@dataclass(frozen=True)
class Folders:
    """Where images are looked for, and where files of our own go.

    Attributes:
        data: where data sets lie; None finds only those that lie at an absolute path or in a package.
        own: folder for images that are written out and for what inspecting them found.
    """

    data: Path | None
    own: Path


def materialise(
    spec: DataSpec, folders: Folders, decode: DecodeSettings, seed: int, progress: Progress
) -> Manifest:
    """Find, list, inspect and split a data set; its usable images lie as files below the manifest's root.

    Whatever was inspected or written before is not inspected or written again.

    Args:
        spec: the data set.
        folders: where to look and where to write.
        decode: how the images will be decoded later; one that decodes now decodes then.
        seed: of the draws of test rows and of dropped rows.
        progress: shows progress.

    Raises:
        DataError: the data set is missing or damaged, or a class is empty.
        UsageError: the spec names a file of near copies that cannot be read.
        DataError: the file of corrected labels cannot be read, or names classes that there are not.
    """
    near = read_near_duplicates(spec.near_duplicates)
    source = spec.find(folders.data)
    listed = spec.list_images(source)
    images = spec.layout.materialiser(spec, source, folders.own)

    def look_at(root: Path, paths: list[str], what: str) -> dict[str, Inspection]:
        with progress(f"looking at {len(paths)} {what}", len(paths)) as bar:
            return journal_of(spec, folders).inspect(root, paths, decode, bar.advance)

    findings = images.inspect(listed, look_at, progress)
    listed = corrections_of(spec, folders).applied(listed, lambda image: findings[image.path].sha256)
    manifest = build_manifest(spec, images.root, listed, findings, seed, near)
    return replace(manifest, rows=tuple(images.write(manifest.rows, progress)))


def corrections_of(spec: DataSpec, folders: Folders) -> Corrections:
    """What people said of the labels of a data set; without labels nobody can have said anything.

    Raises:
        DataError: the file cannot be read, or names classes that there are not.
    """
    if spec.unlabelled:
        return Corrections()
    path = corrections_file(folders.own, spec.name, spec.corrections)
    corrections = Corrections.read(path)
    corrections.require_classes(path, spec.class_names)
    return corrections


def journal_of(spec: DataSpec, folders: Folders) -> InspectionJournal:
    """The journal of what was found when the images of a data set were inspected."""
    return InspectionJournal(folders.own / "inspections" / f"{spec.name}.jsonl")


def root_of_images(spec: DataSpec, folders: Folders) -> Path:
    """The root that :func:`materialise` gives the manifest; nothing is listed or written.

    Raises:
        DataError: the data set is missing.
    """
    images: Materialiser = spec.layout.materialiser(spec, spec.find(folders.data), folders.own)
    return images.root
