"""Images that an exported file is compared on, and what the trained system says of them.

Test images where there are any. Where every image was needed for training there are none, and training images
themselves will not do: a member that keeps them finds them at a distance of 0, where nothing but rounding is
left to compare. They are therefore mirrored left to right, which gives images that no member has seen, or
turned upside down where every image is seen as its mirror image as well.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from contracts.rows import FloatArray, ImageArray, LabelArray
from features.settings import BackboneSettings
from imagedata.decoding.decode import DecodeSettings, decode_file
from imagedata.manifest_row import ManifestRow
from imagedata.views import MirrorImage
from reporting.terminal import progress_bar
from workflow.ensembling.trained_system import TrainedSystem, final_members
from workflow.run.prepared import PreparedData
from workflow.settings.config import RunConfig

if TYPE_CHECKING:
    from workflow.run.features import BackboneWithStore

MIRRORED = "mirrored training images"
UPSIDE_DOWN = "training images upside down"


@dataclass(frozen=True)
class GateImages:
    """N images with the trained system's scores; M score columns.

    Attributes:
        images: ``[N, S, S, 3]`` uint8 at working size.
        labels: ``[N]`` class index, minority last; a class without images has none.
        member_scores: ``[N, M]`` by the final members.
        spreads: ``[M]`` standard deviation of each column, over the test set where there is one.
        what: ``test images``, :data:`MIRRORED` or :data:`UPSIDE_DOWN`, for people.
        rows: their rows of the manifest.
    """

    images: ImageArray
    labels: LabelArray
    member_scores: FloatArray
    spreads: npt.NDArray[np.float64]
    what: str
    rows: Sequence[ManifestRow]


def gate_images(
    system: TrainedSystem, most: int, scorer: Callable[[ImageArray], FloatArray] | None = None
) -> GateImages:
    """Choose images, as many of each class as far as there are any, and score them.

    Args:
        system: trained.
        most: images at most.
        scorer: of the system, where there is one already; see :func:`member_scorer`.
    """
    config, data, test = system.config, system.data, system.test
    if len(test.labels):
        chosen = evenly_chosen(test.labels, most)
        rows = [data.test[i] for i in chosen]
        scores, spreads = test.scores[chosen], test.scores.std(axis=0, dtype=np.float64)
        images = decode_rows(config, data, rows, "decoding test images")
        return GateImages(images, test.labels[chosen], scores, spreads, "test images", rows)
    labels = data.labels(data.train)
    chosen = evenly_chosen(labels, most)
    rows = [data.train[i] for i in chosen]
    what = MIRRORED if config.recipe.views_at_scoring == "none" else UPSIDE_DOWN
    images = turned(decode_rows(config, data, rows, "decoding training images"), what)
    scores = (scorer or member_scorer(system))(images)
    spreads = scores.std(axis=0, dtype=np.float64)
    return GateImages(images, labels[chosen], scores, spreads, what, rows)


def evenly_chosen(labels: LabelArray, most: int) -> npt.NDArray[np.int64]:
    """Ascending positions, an equal share of ``most`` for each class that is there, spread over its rows.

    A class that has fewer rows than its share gives all of them.
    """
    chosen: list[int] = []
    present = np.unique(labels)
    for label in present:
        mine = np.flatnonzero(labels == label)
        wanted = min(len(mine), max(1, most // len(present)))
        chosen.extend(mine[np.linspace(0, len(mine) - 1, wanted).astype(int)].tolist())
    return np.sort(np.array(chosen, dtype=np.int64))


def decode_rows(
    config: RunConfig, data: PreparedData, rows: Sequence[ManifestRow], description: str
) -> ImageArray:
    """Images of a manifest's rows at the run's working size: uint8 ``[N, S, S, 3]``."""
    images = []
    with progress_bar(description, len(rows)) as bar:
        for row in rows:
            images.append(decode_file(data.file_of(row), config.decode).pixels)
            bar.advance()
    return np.stack(images)


def turned(images: ImageArray, what: str) -> ImageArray:
    """``[N, S, S, 3]`` images as the gate shows them, by :attr:`GateImages.what`."""
    if what == UPSIDE_DOWN:
        return np.ascontiguousarray(images[:, ::-1])
    return np.ascontiguousarray(images[:, :, ::-1]) if what == MIRRORED else images


def member_scorer(system: TrainedSystem) -> Callable[[ImageArray], FloatArray]:
    """What gives images at working size ``[N, S, S, 3]`` their scores ``[N, M]``.

    Scores are of the final members, the mean over repeats, by way of files as in training. Members and
    backbones are loaded once, here.
    """
    # torch is imported from here on.
    from features.apply import scores_as_seen
    from features.cache import PassingStore
    from features.extract import ImageFile, extract_features
    from features.rows import CachedRows
    from workflow.run.features import backbones_read_by, load_backbones

    members = final_members(system)
    read = backbones_read_by(fit.member for fit, _ in members.values())
    backbones = load_backbones(system.config, {fit.member.backbone for fit, _ in members.values()})
    # The pixels are at working size already; lossless files of them decode to the bit, without a window for
    # 16-bit values and without reduction.
    decode, views = DecodeSettings(size=system.config.decode.size), system.config.recipe.views_at_scoring

    def scores_of(images: ImageArray) -> FloatArray:
        rows: dict[BackboneSettings, CachedRows] = {}
        columns: list[FloatArray] = []
        with tempfile.TemporaryDirectory() as folder:
            files = [_written(Path(folder), pixels) for pixels in images]
            for settings, loaded in backbones.items():
                store = PassingStore(loaded.store)
                if settings in read:
                    given = [ImageFile(digest, path) for digest, path in files]
                    if views == "mirror":
                        seen = [(path, MirrorImage(digest)) for digest, path in files]
                        given += [ImageFile(image.digest, path, view=image) for path, image in seen]
                    extract_features(loaded.backbone, store, given, decode, "cpu")
                rows[settings] = CachedRows(
                    store,
                    [digest for digest, _ in files],
                    [path for _, path in files],
                    np.zeros(len(images), dtype=np.int64),  # nobody reads labels in scoring
                    system.fitted.n_classes,
                    decode,
                )
            for fit, of_repeats in members.values():
                mine = rows[fit.member.backbone]
                scores = [scores_as_seen(member, mine, views) for member in of_repeats]
                mean: FloatArray = np.asarray(np.mean(scores, axis=0, dtype=np.float64), dtype=np.float32)
                columns.append(mean)
        return np.concatenate(columns, axis=1)

    return scores_of


def pooled_of_pixels(loaded: BackboneWithStore, images: ImageArray) -> FloatArray:
    """``[N, D]`` pooled features of images at working size ``[N, S, S, 3]``, by way of files."""
    from features.cache import PassingStore
    from features.extract import ImageFile, extract_features

    store = PassingStore(loaded.store)
    with tempfile.TemporaryDirectory() as folder:
        files = [ImageFile(*_written(Path(folder), pixels)) for pixels in images]
        extract_features(loaded.backbone, store, files, DecodeSettings(size=images.shape[1]), "cpu")
    return store.pooled([file.sha256 for file in files])


def _written(folder: Path, pixels: ImageArray) -> tuple[str, Path]:
    """Write one image without loss; its SHA-256 and its file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    path = folder / f"{digest}.png"
    path.write_bytes(buffer.getvalue())
    return digest, path
