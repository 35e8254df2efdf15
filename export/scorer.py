"""A scorer to embed in programs of one's own: one file, a few methods, no torch.

    from outnumbered import Scorer

    scorer = Scorer("model.onnx")
    for result in scorer.score_files(["part_1.jpg", "part_2.jpg"]):
        print(result.name, result.probability, result.decision, result.error)

Needs numpy, Pillow and onnxruntime. Images are decoded exactly as in training. A broken image becomes a
result with the reason, and does not affect the images beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from contracts.errors import ImageError, UsageError
from contracts.rows import FloatArray, ImageArray
from contracts.triage import TRIAGE_NAMES
from export.scoring.model import Scores, load_model
from export.scoring.plan import Levels, Override
from export.scoring.seal import check_seal
from export.scoring.shard import DEFAULT_BATCH_SIZE
from imagedata.decoding.decode import DecodedImage, decode_bytes, decode_file, pixels_at_working_size


@dataclass(frozen=True)
class ImageScore:
    """What became of one image; K classes, M member columns.

    Attributes:
        name: as given.
        probability: calibrated probability of the minority, whatever the number of classes, or None. Files
            made without labelled minority images have none.
        probabilities: ``[K]`` float32, of every class in the order of ``Scorer.classes`` (the minority is the
            last), or None.
        p_normal: how often a normal image looks at least as odd as this one, 0…1, or None.
        p_minority: how often an image of the minority looks at least as normal as this one, 0…1, or None.
        decision: name of the decided class, or None.
        triage: ``PASS``, ``FAIL``, ``REVIEW`` (may be of either class) or ``NOVEL`` (like neither), or None.
        decision_probability: calibrated probability of the decided class, or None. It need not be the
            largest: thresholds weigh what each mistake costs.
        member_scores: ``[M]`` float32 in the order of ``Scorer.members``, or None.
        anomaly_map: ``[h, w]`` float32 where the file carries a map and maps are asked for, or None: all
            members' evidence together.
        maps: member → ``[h, w]`` float32, its own map; empty where there is none or it was not asked for.
        error: why there are no scores, as one sentence; None where there are.
    """

    name: str
    probability: float | None = None
    probabilities: FloatArray | None = None
    p_normal: float | None = None
    p_minority: float | None = None
    decision: str | None = None
    triage: str | None = None
    decision_probability: float | None = None
    member_scores: FloatArray | None = None
    anomaly_map: FloatArray | None = None
    maps: Mapping[str, FloatArray] = field(default_factory=dict)
    error: str | None = None


def _checked(picture: ImageArray, number: int) -> ImageArray:
    """A picture, if it is one.

    Raises:
        UsageError: another type or shape; most often a float array, or a single picture in place of several.
    """
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UsageError(
            f"picture {number}: got {array.dtype} of shape {list(array.shape)}, but uint8 [H, W, 3] RGB is "
            "expected. Give one such array per picture, or all in one [N, H, W, 3]; one alone as [picture]."
        )
    return array


class Scorer:
    """An exported file, ready to score. Not to be shared between threads: give each its own.

    Args:
        path: a file written by ``cli.py export``.
        threads: within one operator; one thread in each of several processes is fastest.
        prior: share of the minority where the images come from (of each class for K > 2); None for the
            file's own.
        threshold: probability from which on the minority is decided, or p_normal up to which it is where
            the file has no probability; None for the file's own.
        levels: error rates of triage in place of the file's own: ``{"miss_rate": 0.01}``, ``false_alarms`` or
            both.
        runtime: ``onnxruntime``, or ``openvino`` where that is installed.
        maps: give maps, too, where the file has them; without them scoring is a little faster.

    Raises:
        UsageError: no such file or runtime, or a prior, threshold or error rate that cannot be.
        ModelError: no file of ours, or one whose content changed since it was exported.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 1,
        prior: Override = None,
        threshold: Override = None,
        levels: Levels = None,
        runtime: str = "onnxruntime",
        maps: bool = True,
    ) -> None:
        self._model = load_model(Path(path), threads, runtime)
        check_seal(self._model.path)
        self._model.check_overrides(prior, threshold, levels)
        self._prior = prior
        self._threshold = threshold
        self._levels = levels
        self._with_maps = maps
        self.classes = self._model.classes
        self.members = self._model.members

    @property
    def info(self) -> dict[str, Any]:
        """What the file says about itself, and where it lies; for people and for logs.

        The keys of its metadata, such as ``classes``, ``minority``, ``members``, ``threshold``, ``prior``,
        ``metrics``, ``weights``, ``data`` and ``provenance`` (``docs/onnx-file.md`` has all of them), with
        ``file``, ``bytes`` and ``sha256``. Older files lack some. Changing the document changes no score.
        """
        path = self._model.path
        # As JSON once more, so that nobody's changes reach what the scorer reads.
        document: dict[str, Any] = json.loads(json.dumps(self._model.document))
        document.pop("ensemble", None)  # weights and steps, which only the graph needs
        return {
            "file": str(path),
            "bytes": path.stat().st_size,
            "sha256": self._model.sha256,
            **document,
        }

    def score(
        self, pictures: ImageArray | Iterable[ImageArray], batch_size: int = DEFAULT_BATCH_SIZE
    ) -> list[ImageScore]:
        """Score whole pictures that are decoded already, as their files would be scored.

        Each is brought to the working size as decoding does it, so the scores are those of a file that holds
        the same pixels without loss.

        Args:
            pictures: ``[N, H, W, 3]``, or any number of ``[H, W, 3]`` of any sizes; uint8 RGB, upright.
            batch_size: images per call of the graph.

        Returns:
            One result per picture, named ``0``, ``1``, …; one that cannot be used says why.

        Raises:
            UsageError: an array of another type or shape.
        """
        named = (
            (str(number), partial(self._prepared, _checked(picture, number)))
            for number, picture in enumerate(pictures)
        )
        return list(self._score(named, batch_size))

    def _prepared(self, picture: ImageArray) -> DecodedImage:
        height, width = picture.shape[:2]
        return DecodedImage(self.pixels_of(picture), width, height, "RGB")

    def score_pixels(self, images: ImageArray) -> Scores:
        """Score pixels that are decoded already.

        Args:
            images: ``[N, H, W, 3]`` uint8 RGB, upright; exact at the file's working size, resized inside
                otherwise. A file with a region of interest takes what :meth:`pixels_of` gives and no other.

        Raises:
            UsageError: whole pictures for a file with a region of interest.
            ModelError: the graph fails on them.
        """
        return self._model.run(
            images, self._prior, self._threshold, levels=self._levels, with_maps=self._with_maps
        )

    def pixels_of(self, picture: ImageArray) -> ImageArray:
        """A picture that is decoded already, as the file's own decoding would have made it.

        Args:
            picture: ``[H, W, 3]`` uint8 RGB, upright, as large as it is.

        Returns:
            ``[S, S, 3]`` uint8: the region of interest, where the file has one, at the working size. Stacked,
            they are what :meth:`score_pixels` takes.

        Raises:
            ImageError: the picture has not the proportions of the region's mask.
        """
        return pixels_at_working_size(picture, self._model.decode)

    def score_files(
        self, paths: Iterable[str | Path], batch_size: int = DEFAULT_BATCH_SIZE
    ) -> Iterator[ImageScore]:
        """Score image files, in order, as they are asked for.

        Args:
            paths: any number of files; read a batch at a time.
            batch_size: images per call of the graph.
        """
        # Lazily, so that no more than one batch of pixels is in memory.
        named = ((str(path), partial(decode_file, Path(path), self._model.decode)) for path in paths)
        return self._score(named, batch_size)

    def score_bytes(
        self, images: Iterable[tuple[str, bytes]], batch_size: int = DEFAULT_BATCH_SIZE
    ) -> Iterator[ImageScore]:
        """Score encoded images that came by other ways than files, such as uploads.

        Args:
            images: any number of (name, content of a JPEG, PNG, TIFF, WebP … file).
            batch_size: images per call of the graph.
        """
        named = ((name, partial(decode_bytes, data, self._model.decode)) for name, data in images)
        return self._score(named, batch_size)

    def _score(
        self, named: Iterable[tuple[str, Callable[[], DecodedImage]]], batch_size: int
    ) -> Iterator[ImageScore]:
        waiting = iter(named)
        while batch := list(islice(waiting, batch_size)):
            pixels: list[ImageArray] = []
            outcomes: list[ImageScore | None] = []
            for name, decode in batch:
                try:
                    pixels.append(decode().pixels)
                    outcomes.append(None)
                except ImageError as error:
                    outcomes.append(ImageScore(name, error=str(error)))
            scored = self._of_pixels([name for name, _ in batch], outcomes, pixels)
            for failed in outcomes:
                yield failed if failed is not None else next(scored)

    def _of_pixels(
        self, names: Sequence[str], outcomes: Sequence[ImageScore | None], pixels: Sequence[ImageArray]
    ) -> Iterator[ImageScore]:
        if not pixels:
            return
        scores = self.score_pixels(np.stack(pixels))
        decoded = [name for name, outcome in zip(names, outcomes, strict=True) if outcome is None]
        for row, name in enumerate(decoded):
            yield self._one(name, scores, row)

    def _one(self, name: str, scores: Scores, row: int) -> ImageScore:
        # One bad image must not raise for the whole batch; it becomes a result with the reason.
        if not scores.finite[row]:
            return ImageScore(name, error="the model gave a score that is not a finite number.")
        of_classes = None
        if scores.probability is not None:
            given = scores.probability[row]
            # A file for two classes gives the minority's probability only.
            of_classes = given if given.ndim else np.array([1.0 - given, given], dtype=np.float32)
        decided = int(scores.decision[row])
        return ImageScore(
            name,
            probability=None if of_classes is None else float(of_classes[-1]),
            probabilities=of_classes,
            p_normal=None if scores.p_normal is None else float(scores.p_normal[row]),
            p_minority=None if scores.p_minority is None else float(scores.p_minority[row]),
            decision=self.classes[decided],
            triage=None if scores.triage is None else TRIAGE_NAMES[int(scores.triage[row])],
            decision_probability=None if of_classes is None else float(of_classes[decided]),
            member_scores=scores.member_scores[row],
            anomaly_map=None if scores.anomaly_map is None else scores.anomaly_map[row],
            maps={member: of_member[row] for member, of_member in scores.maps.items()},
        )
