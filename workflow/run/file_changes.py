"""What became of a data set's files since a manifest of them was written; no image is decoded.

A file counts as unchanged while its size and modification time are those in the journal of inspections.
Only files whose size or time differs are read and hashed, so a file that was merely touched is no change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import DataError
from imagedata.decoding.decode import DecodeSettings
from imagedata.inspection import Inspection, InspectionJournal
from imagedata.layouts.materialiser import Progress
from imagedata.manifest import Manifest
from imagedata.manifest_row import ManifestRow
from imagedata.materialise import Folders, corrections_of, journal_of
from imagedata.spec import DataSpec

_NAMED = 3
"""Files of each kind that are named as examples."""


@dataclass(frozen=True)
class DataChanges:
    """Files that differ from the manifest, by their paths below the root of the data set.

    Attributes:
        added: listed now, and not in the manifest.
        removed: in the manifest, and not listed any more.
        replaced: listed as before, with other bytes.
        relabelled: listed as before, with another label, or corrected by a person.
        problem: why the data set can no longer be listed; empty where it can.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    relabelled: tuple[str, ...] = ()
    problem: str = ""

    @property
    def _kinds(self) -> dict[str, tuple[str, ...]]:
        return {
            "added": self.added,
            "removed": self.removed,
            "replaced": self.replaced,
            "relabelled": self.relabelled,
        }

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.problem) or any(self._kinds.values())

    @property
    def summary(self) -> str:
        """Counts and first names, as in ``2 images added (a.png, b.png), 1 removed (c.png)``."""
        if self.problem:
            return f"it cannot be listed any more ({self.problem.rstrip('.')})"
        parts: list[str] = []
        for kind, paths in self._kinds.items():
            if paths:
                more = ", …" if len(paths) > _NAMED else ""
                what = "" if parts else " image" if len(paths) == 1 else " images"
                parts.append(f"{len(paths)}{what} {kind} ({', '.join(paths[:_NAMED])}{more})")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Counts by kind, and the first paths of each."""
        facts: dict[str, Any] = {kind: len(paths) for kind, paths in self._kinds.items()}
        facts["examples"] = {kind: list(paths[:_NAMED]) for kind, paths in self._kinds.items() if paths}
        return facts | ({"problem": self.problem} if self.problem else {})


def changes_since(
    spec: DataSpec, folders: Folders, source: Path, manifest: Manifest, decode: DecodeSettings
) -> DataChanges:
    """Compare a data set as it lies on disk with the manifest that was made of it.

    Args:
        spec: the data set.
        folders: where images lie and where our own files are.
        source: folder of the data set, as :meth:`imagedata.spec.DataSpec.find` returned it.
        manifest: what it was.
        decode: how its images are decoded; part of the journal's keys.

    Returns:
        Of packs and shards only labels that people corrected: another content gives them another root
        (see :mod:`imagedata.layouts.materialiser`), which is noticed where a run is loaded.
    """
    rows = [row for row in manifest.rows if row.split != "augmented"]
    images = spec.layout.materialiser(spec, source, folders.own)
    try:
        corrections = corrections_of(spec, folders)
    except DataError as error:
        return DataChanges(problem=str(error))
    # A person's word against the manifest's, or one that was taken back.
    corrected = {
        row.path
        for row in rows
        if row.sha256 and corrections.label_of(row.sha256, row.listed_label or row.label) != row.label
    }
    then = images.sources(rows)
    if then is None:
        return DataChanges(relabelled=tuple(sorted(corrected)))
    labels_then: defaultdict[str, set[str]] = defaultdict(set)
    labels_now: defaultdict[str, set[str]] = defaultdict(set)
    for path, row in then:
        labels_then[path].add(row.listed_label or row.label)
    try:
        # Not list_images, which refuses a class without images: here that is a finding, not an error.
        for image in spec.layout.images(spec.class_names, source):
            labels_now[image.path].add(image.label)
    except DataError as error:
        return DataChanges(problem=str(error))
    kept = {path: row for path, row in then if path in labels_now}
    return DataChanges(
        added=tuple(sorted(labels_now.keys() - labels_then.keys())),
        removed=tuple(sorted(labels_then.keys() - labels_now.keys())),
        replaced=tuple(_with_other_bytes(journal_of(spec, folders), source, kept, decode)),
        relabelled=tuple(
            path
            for path, row in sorted(kept.items(), key=lambda each: each[0])
            if labels_then[path] != labels_now[path] or row.path in corrected
        ),
    )


def _with_other_bytes(
    journal: InspectionJournal, root: Path, rows: dict[str, ManifestRow], decode: DecodeSettings
) -> list[str]:
    """Paths of files whose bytes are not those of their rows, sorted."""
    # Rows without a digest could not be read at all, so there is nothing to compare them with.
    expected = {path: _finding_of(row) for path, row in rows.items() if row.sha256}
    found = journal.digests(root, expected, decode)
    return sorted(path for path, finding in expected.items() if found[path] != finding.sha256)


def differing_files(
    spec: DataSpec,
    folders: Folders,
    root: Path,
    rows: Sequence[ManifestRow],
    decode: DecodeSettings,
    progress: Progress,
) -> tuple[list[str], list[str]]:
    """Which rows' files are missing below another root, and which have other bytes there.

    Every file is read, not a sample: what is measured on the images at the new place is then as certain as at
    the old one. It is done once, as the journal knows the files afterwards.

    Args:
        spec: the data set.
        folders: where our own files are.
        root: folder that the rows' paths are to be looked for in.
        rows: of the manifest.
        decode: how its images are decoded.
        progress: shows progress.

    Returns:
        Missing paths and differing paths. Where some are missing, nothing is read.
    """
    missing = [row.path for row in rows if not (root / row.path).is_file()]
    if missing:
        return missing, []
    expected = {row.path: _finding_of(row) for row in rows}
    with progress(f"comparing {len(rows)} images at their new place", len(rows)) as bar:
        found = journal_of(spec, folders).digests(root, expected, decode, bar.advance)
    return [], [path for path, finding in expected.items() if found[path] != finding.sha256]


def _finding_of(row: ManifestRow) -> Inspection:
    """What was found when the row's file was inspected."""
    problem = row.reason if row.status == "broken" else ""
    return Inspection(row.sha256, row.width, row.height, row.mode, problem)
