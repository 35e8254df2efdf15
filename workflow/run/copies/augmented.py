"""Changed copies of the minority's training images: made once, listed in the manifest, tied to a source.

Copies made by hand before training leak: those of one image land in several folds and in the test set,
and they stand in every count of the classes. Here a copy is made of a training image only, after the test
set is drawn; it carries its source's group, belongs to no fold, and says in the manifest what it is.

Files lie below ``<runs>/augmented/<data set>-<digest>/``, named after the SHA-256 of their source. The digest
covers settings, seed, working size and sources, so a folder never holds copies of two minds; ``made.json``,
written last, says what was made and of what bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts.files import atomic_writer, digest_of, read_json, sha256_of_file, write_json
from imagedata.decoding.decode import DecodeSettings
from imagedata.decoding.stored_png import encode_png
from imagedata.manifest import Manifest
from imagedata.manifest_row import ManifestRow
from imagedata.spec import MinorityCopies
from reporting.terminal import progress_bar

# Raised when the same settings give other pixels, so that no folder is filled by two versions.
_VERSION = 1


def with_augmented_copies(
    manifest: Manifest, settings: MinorityCopies, decode: DecodeSettings, seed: int, below: Path
) -> Manifest:
    """Make the copies that are missing and add a row for each.

    Args:
        manifest: of the listed images; its usable training rows of the last class are the sources.
        settings: how many copies, how far changed.
        decode: working size, at which copies are made, and 16-bit window.
        seed: of the run.
        below: folder of the copies of all data sets.

    Returns:
        The manifest with rows of split ``augmented`` among the others; they have label and group of their
        source, and the SHA-256 of the file as it is.

    Raises:
        DataError: a source has gone or changed since it was looked at.
    """
    sources = [row for row in manifest.usable("train") if row.label == manifest.class_names[-1]]
    numbers = copies_of_each(settings, [row.sha256 for row in sources], seed)
    recipe: dict[str, Any] = {
        "version": _VERSION,
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "decode": decode.to_json(),
        "copies": numbers,
    }
    folder = below / f"{manifest.dataset}-{digest_of(recipe)}"
    wanted = {f"{row.sha256}-{n}.png": row for row in sources for n in range(1, numbers[row.sha256] + 1)}
    digests = _make(folder, recipe, wanted, manifest.root, settings, decode, seed)
    copies = [
        ManifestRow(
            path=f"{folder.name}/{name}",
            label=row.label,
            group=row.group,
            split="augmented",
            sha256=digests[name],
            width=decode.size,
            height=decode.size,
            mode="RGB",
            status="ok",
            reason="",
            source=row.path,
        )
        for name, row in wanted.items()
    ]
    rows = sorted([*manifest.rows, *copies], key=lambda row: (row.split, row.path))
    return replace(manifest, rows=tuple(rows))


def copies_of_each(settings: MinorityCopies, sources: list[str], seed: int) -> dict[str, int]:
    """SHA-256 of each source → number of its copies.

    A total that does not divide is made up by one more copy of some sources; a seeded hash decides which.
    """
    if settings.total is None:
        return dict.fromkeys(sources, settings.copies or 0)
    least, more = divmod(settings.total, len(sources))
    # By hash rather than by name, so that renaming files changes no copy.
    in_order = sorted(sources, key=lambda source: _hash(seed, "one more", source))
    return {source: least + (place < more) for place, source in enumerate(in_order)}


def _hash(seed: int, purpose: str, key: str) -> str:
    return hashlib.sha256(f"{seed}|augmented, {purpose}|{key}".encode()).hexdigest()


def _make(
    folder: Path,
    recipe: dict[str, Any],
    wanted: dict[str, ManifestRow],
    root: Path,
    settings: MinorityCopies,
    decode: DecodeSettings,
    seed: int,
) -> dict[str, str]:
    """Write the files that are missing, or not of the bytes that were made; returns name → SHA-256.

    Each file is whole or absent, so after a kill those that are there stay.
    """
    made = _made_before(folder)
    digests = {}
    for name in wanted:
        path = folder / name
        if path.is_file():
            digest = sha256_of_file(path)
            # A file whose bytes differ from those that were made was changed by somebody, and is made again.
            if made.get(name, digest) == digest:
                digests[name] = digest
    missing = [name for name in wanted if name not in digests]
    if missing:
        # torch is imported from here on, and only when there is work.
        maker = _Maker(settings, decode, seed)
        with progress_bar(f"making {len(missing)} augmented images", len(missing)) as bar:
            for name in missing:
                content = maker.copy_of(root / wanted[name].path, name)
                with atomic_writer(folder / name) as handle:
                    handle.write(content)
                digests[name] = hashlib.sha256(content).hexdigest()
                bar.advance()
    if missing or made != digests:
        write_json(folder / "made.json", {**recipe, "files": digests})
    return digests


def _made_before(folder: Path) -> dict[str, str]:
    """Name → SHA-256 of the files of a folder that was finished; nothing where it was not."""
    try:
        files: dict[str, str] = dict(read_json(folder / "made.json")["files"])
    except (OSError, ValueError, KeyError, TypeError):  # a kill came first, or somebody edited it
        return {}
    return files


class _Maker:
    """Makes copies, each by its name alone: neither order nor what is there already changes one.

    Args:
        settings: how far to change.
        decode: working size and window.
        seed: of the run.
    """

    def __init__(self, settings: MinorityCopies, decode: DecodeSettings, seed: int) -> None:
        from supervised.settings import AugmentSettings
        from supervised.whole_cnn.augmentation import image_transform

        changes = AugmentSettings.model_validate(settings.changes())
        self._transform = image_transform(changes, decode.size)
        self._decode, self._seed = decode, seed

    def copy_of(self, source: Path, name: str) -> bytes:
        """A PNG file of the changed image at the working size.

        Raises:
            DataError: the source has gone or changed since it was looked at.
        """
        import torch

        from features.rows import read_pixels

        pixels = torch.from_numpy(read_pixels([source], self._decode)[0]).permute(2, 0, 1)
        # The transforms draw from torch's global generator, on the CPU.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(_hash(self._seed, "copy", name)[:15], 16))
            changed = self._transform(pixels)
        return encode_png(changed.permute(1, 2, 0).contiguous().numpy())
