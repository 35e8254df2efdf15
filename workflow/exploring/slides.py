"""Slides put together again from patches, with what a finished run says of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from contracts.errors import ImageError, ModelError
from contracts.files import read_json
from contracts.rows import ImageArray
from ensemble.fitted import FittedEnsemble
from imagedata.coordinates import PatchPlace, place_of
from imagedata.decoding.decode import decode_at_stored_size, read_image_bytes
from imagedata.manifest import Manifest
from imagedata.manifest_row import ManifestRow
from imagedata.sampling import seeded_rank
from workflow.settings.config import RunConfig

_LEAST_PATCHES = 2


@dataclass(frozen=True)
class Predictions:
    """What a finished run says of its rows.

    Attributes:
        probability: path → probability of the minority class.
        is_flagged: path → whether that class was decided.
    """

    probability: dict[str, float]
    is_flagged: dict[str, bool]


@dataclass(frozen=True)
class DrawnSlide:
    """A slide as it was drawn.

    Attributes:
        name: patient or slide.
        split: ``training``, ``held out``, both, or ``not used``.
        patches: drawn, the broken ones included.
        minority: patches of the minority class.
        broken: patches whose files cannot be read.
        predicted: patches with a probability.
        missed: patches of the minority class that were not decided as such.
        false_alarms: patches decided as the minority class that are not.
        labels: picture of tissue and labels.
        probabilities: picture of probabilities and errors, where a run is finished.
    """

    name: str
    split: str
    patches: int
    minority: int
    broken: int
    predicted: int
    missed: int
    false_alarms: int
    labels: Image.Image
    probabilities: Image.Image | None

    def facts(self) -> dict[str, Any]:
        """Everything but the pictures."""
        return {
            name: getattr(self, name)
            for name in (
                "name",
                "split",
                "patches",
                "minority",
                "broken",
                "predicted",
                "missed",
                "false_alarms",
            )
        }


def predictions_of(config: RunConfig, manifest: Manifest) -> tuple[Predictions | None, str]:
    """Out-of-fold and test predictions of the run in the configuration's folder.

    A training row's member scores are those of the fold that held it out, so that no member has seen it; the
    few numbers of stacker and calibrator were fitted on these very scores.

    Returns:
        The predictions, or None where nothing is finished; and a sentence about them.
    """
    again = config.options.command("ensemble")
    folder = config.folder
    if not (folder / "metrics.json").exists():
        return None, f"Nothing is trained with recipe {config.recipe.name} yet, so labels are all there is."
    try:
        fitted = FittedEnsemble.from_json(read_json(folder / "ensemble.json"))
        if _usable_facts(Manifest.read(folder / "manifest.parquet")) != _usable_facts(manifest):
            return None, (
                f"The run of recipe {config.recipe.name} is of other rows than these, so its probabilities "
                f"are not shown. Run train-all again, then: {again}"
            )
        p: dict[str, float] = {}
        flagged: dict[str, bool] = {}
        for name in ("oof.parquet", "test.parquet"):
            table = pq.read_table(folder / name)
            scores = np.stack([table[f"score_{column.name}"].to_numpy() for column in fitted.columns], axis=1)
            paths = [str(path) for path in table["path"].to_pylist()]
            p |= dict(zip(paths, fitted.minority_probability(scores).tolist(), strict=True))
            decided = fitted.decide(scores) == fitted.n_classes - 1
            flagged |= dict(zip(paths, decided.tolist(), strict=True))
    except (OSError, KeyError, ValueError, TypeError, ModelError):  # deleted, torn, or of an older version
        return None, f"The files in {folder} are not whole, so no probabilities are shown. Run: {again}"
    return Predictions(p, flagged), (
        f"Probabilities are those of the ensemble of recipe {config.recipe.name}: on training images from "
        "members that did not see the image's fold, on test images from the final members."
    )


def _usable_facts(manifest: Manifest) -> set[tuple[str, str, str, str]]:
    rows = [*manifest.usable("train"), *manifest.usable("test")]
    return {(row.path, row.split, row.label, row.sha256) for row in rows}


def slides_of(manifest: Manifest, has_group_rule: bool) -> dict[str, list[tuple[ManifestRow, PatchPlace]]]:
    """Slide → its patches, of the rows whose names state coordinates; sorted by name.

    Args:
        manifest: of the data set.
        has_group_rule: whether groups are patients; otherwise what precedes the coordinates names the slide.
    """
    found: dict[str, list[tuple[ManifestRow, PatchPlace]]] = {}
    for row in manifest.rows:
        place = None if row.split == "augmented" else place_of(row.path)
        if place is not None:
            found.setdefault(row.group if has_group_rule else place.slide, []).append((row, place))
    return {name: found[name] for name in sorted(found) if len(found[name]) >= _LEAST_PATCHES}


def choose_slides(
    slides: dict[str, list[tuple[ManifestRow, PatchPlace]]], minority: str, seed: int, count: int
) -> list[str]:
    """Names of the slides to draw: those with both classes first, held-out and training ones in turn.

    Args:
        slides: as of :func:`slides_of`.
        minority: name of the minority class.
        seed: of the order among equals.
        count: at most.
    """

    def order(name: str) -> tuple[bool, str]:
        labels = {row.label for row, _ in slides[name]}
        return not (minority in labels and len(labels) > 1), seeded_rank(seed, "slides", name)

    is_test = {name: any(row.split == "test" for row, _ in rows) for name, rows in slides.items()}
    held_out = sorted((name for name in slides if is_test[name]), key=order)
    training = sorted((name for name in slides if not is_test[name]), key=order)
    n_held_out = min(len(held_out), max(count // 2, count - len(training)))
    return [*held_out[:n_held_out], *training[: count - n_held_out]]


def draw_slides(
    config: RunConfig,
    manifest: Manifest,
    slides: dict[str, list[tuple[ManifestRow, PatchPlace]]],
    chosen: list[str],
    predictions: Predictions | None,
) -> Iterator[DrawnSlide]:
    """Draw slides, one after the other; a patch whose file is broken becomes a crossed-out field."""
    for name in chosen:
        yield _drawn(config, manifest, name, slides[name], predictions)


def _drawn(
    config: RunConfig,
    manifest: Manifest,
    name: str,
    rows: list[tuple[ManifestRow, PatchPlace]],
    predictions: Predictions | None,
) -> DrawnSlide:
    from reporting.slides import Patch, Slide

    # A broken file has no size of its own; its neighbours' serves.
    known = Counter((row.width, row.height) for row, _ in rows if row.width and row.height)
    usual = known.most_common(1)[0][0] if known else (50, 50)
    patches = [
        Patch(
            x=place.x,
            y=place.y,
            width=row.width or usual[0],
            height=row.height or usual[1],
            is_minority=row.label == manifest.class_names[-1],
            probability=predictions.probability.get(row.path) if predictions else None,
            is_flagged=predictions.is_flagged.get(row.path) if predictions else None,
        )
        for row, place in rows
    ]
    slide = Slide(patches)
    broken = 0
    for (row, _), patch in zip(rows, patches, strict=True):
        pixels = _pixels(manifest.root / row.path, config.spec.window) if row.status != "broken" else None
        broken += pixels is None
        slide.paste(patch, pixels)
    has_predictions = any(patch.probability is not None for patch in patches)
    return DrawnSlide(
        name=name,
        split=_splits([row for row, _ in rows]),
        patches=len(patches),
        minority=sum(patch.is_minority for patch in patches),
        broken=broken,
        predicted=sum(patch.probability is not None for patch in patches),
        missed=sum(patch.is_missed for patch in patches),
        false_alarms=sum(patch.is_false_alarm for patch in patches),
        labels=slide.labels(),
        probabilities=slide.probabilities() if has_predictions else None,
    )


def _splits(rows: list[ManifestRow]) -> str:
    used = {row.split for row in rows if row.status == "ok"}
    names = [word for split, word in (("train", "training"), ("test", "held out")) if split in used]
    return " and ".join(names) or "not used"


def _pixels(path: Path, window: tuple[float, float] | None) -> ImageArray | None:
    try:
        return np.asarray(decode_at_stored_size(read_image_bytes(path), window))
    except ImageError:
        return None
