"""``localise``: do the exported file's maps find the pixels that the masks mark as anomalous?"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.markup import escape
from rich.table import Table

from contracts.errors import DataError, ImageError, ModelError
from contracts.files import write_json
from contracts.rows import FloatArray, MaskArray
from evaluation.localisation import FPR_LIMIT, Figure, Localisation, PixelCounts, thresholds_of
from export.scoring.model import TOGETHER, load_model
from features.rows import read_pixels
from imagedata.decoding.decode import DecodeSettings
from imagedata.decoding.masks import read_mask
from imagedata.decoding.shape import middle
from imagedata.manifest_row import ManifestRow
from reporting.terminal import console, note, progress_bar
from workflow.run.prepared import group_numbers
from workflow.run.state import Run
from workflow.settings.config import RunConfig, RunOptions

FILE = "localisation.json"
"""What was measured, in the run folder."""

_BATCH = 16
_ALL = "all"
_TOGETHER = "together"
_SENTENCE = (
    "Test images only; anomalies moved into training are excluded. Pixel AUROC: 0.5 is "
    f"guessing. PRO: overlap per region up to {FPR_LIMIT:.0%} false positive pixels; guessing gives 0.15."
)


def localise(options: RunOptions) -> dict[str, Any]:
    """Measure the exported maps of a finished run against masks, on test images.

    Args:
        options: which run.

    Returns:
        ``{dataset, recipe, model, model_sha256, map_of, fpr_limit, kinds, maps, examples, left_out}``; a kind
        of anomaly, ``all`` first: images, anomalous, regions, and ``pixel_auroc`` and ``pro``, each a value
        with its 95 % interval. ``kinds`` are measured by ``anomaly_map``, and ``map_of`` names the members
        whose maps it holds together; ``examples`` are the anomalies that it finds best, as half of them, and
        worst. ``maps``: ``together`` (where there are several) and each member, by its own map: ``map`` and
        ``kinds``. Written to ``localisation.json`` in the run folder, where ``report`` finds it.

    Raises:
        DataError: the data set has no masks, or none of its test images' can be used.
        ModelError: the run is not finished, or its file has no map.
    """
    from export.graph_parts import members_of_output

    run = Run.open(options).require_ensemble()
    config = run.config
    rows, masks, left_out = _usable(run)
    maps, digest = _maps(run, rows)
    together = _counted(run, rows, masks, maps[TOGETHER])
    kinds = _measure(config, rows, masks, together)
    members = members_of_output(run.model, TOGETHER)
    # A single member's map is the one of all members but for its unit, which no figure depends on.
    measured = {_TOGETHER: kinds} if len(members) > 1 else {members[0]: kinds}
    if len(members) > 1:
        for name in members:
            if name in maps:
                measured[name] = _measure(config, rows, masks, _counted(run, rows, masks, maps[name]))
    document: dict[str, Any] = {
        "dataset": config.spec.name,
        "recipe": config.recipe.name,
        "model": str(run.model),
        "model_sha256": digest,
        "map_of": ", ".join(members),
        "fpr_limit": FPR_LIMIT,
        "kinds": _documents(kinds),
        "maps": [{"map": name, "kinds": _documents(found)} for name, found in measured.items()],
        "examples": _examples(rows, masks, together),
        "left_out": left_out,
    }
    write_json(config.folder / FILE, document)
    _print(config, measured, left_out)
    return document


def _usable(run: Run) -> tuple[list[ManifestRow], list[Path | None], list[dict[str, str]]]:
    """Test rows that can be compared, the mask of each (None: all of it is normal), and the others."""
    minority = run.data.manifest.class_names[-1]
    if not any(row.mask for row in run.data.manifest.rows):
        raise DataError(
            f"{run.config.spec.name}: the data set has no masks, so the places of its anomalies are unknown. "
            "Use a tree laid out as MVTec AD is, with ground_truth/<kind>/<name>_mask.png."
        )
    rows: list[ManifestRow] = []
    masks: list[Path | None] = []
    left_out = []
    for row in run.data.test:
        if row.label != minority:
            rows.append(row)
            masks.append(None)
            continue
        reason = "it has no mask." if row.mask is None else ""
        if row.mask is not None:
            try:
                # Read once here and thrown away: a broken mask must be named before minutes of mapping.
                reason = _unseen(run.config.decode, row, read_mask(run.data.manifest.root / row.mask))
            except ImageError as error:
                reason = f"{row.mask}: {error}"
        if reason:
            left_out.append({"path": row.path, "reason": reason})
        else:
            rows.append(row)
            masks.append(run.data.manifest.root / str(row.mask))
    if all(mask is None for mask in masks):
        raise DataError(
            f"{run.config.spec.name}: none of the {len(left_out)} test anomalies has a usable mask; the "
            f"first: {left_out[0]['path']}: {left_out[0]['reason']} Put the masks beside the images."
        )
    return rows, masks, left_out


def _maps(run: Run, rows: list[ManifestRow]) -> tuple[dict[str, FloatArray], str]:
    """``[N, g, g]`` maps of the exported file by name, and the file's SHA-256.

    Names are those of members, and :data:`export.scoring.model.TOGETHER`.
    """
    config, path, finished = run.config, run.model, run.finished
    if finished is None:
        raise ModelError(
            f"{path}: missing, or not the file of this ensemble. Run: {config.options.command('export')}"
        )
    if finished.get("not_exported"):
        raise ModelError(f"{config.folder}: {finished['not_exported']}")
    model = load_model(path)
    if not model.has_map:
        raise ModelError(
            f"{path}: none of its members ({', '.join(model.members)}) gives a map. "
            "Train a recipe with a member that does, such as patchcore."
        )
    maps: dict[str, list[FloatArray]] = {}
    with progress_bar(f"mapping {len(rows)} test images", len(rows)) as bar:
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            pixels = read_pixels([run.data.file_of(row) for row in batch], config.decode)
            found = model.run(pixels, with_maps=True)
            assert found.anomaly_map is not None  # asked above
            for name, given in {TOGETHER: found.anomaly_map, **found.maps}.items():
                maps.setdefault(name, []).append(np.asarray(given, dtype=np.float32))
            bar.advance(len(batch))
    return {name: np.concatenate(given) for name, given in maps.items()}, model.sha256


def _counted(run: Run, rows: list[ManifestRow], masks: list[Path | None], maps: FloatArray) -> PixelCounts:
    counts = PixelCounts(thresholds_of(list(maps)))
    with progress_bar(f"comparing {len(rows)} maps with masks", len(rows)) as bar:
        for row, mask, heat in zip(rows, masks, maps, strict=True):
            # A mask is read again each time, so that no more than one is in memory.
            seen = None if mask is None else read_mask(mask)
            counts.add(*_at_one_size(heat, row, seen, run.config.decode))
            bar.advance()
    return counts


def _at_one_size(
    heat: FloatArray, row: ManifestRow, mask: MaskArray | None, decode: DecodeSettings
) -> tuple[FloatArray, MaskArray]:
    """A map stretched bilinearly to its mask's size, and the mask; both as far as the model looks.

    A normal image is all normal at its own size.
    """
    if mask is None:
        own = decode.region.mask_size if decode.region is not None else None
        width, height = own or (row.width, row.height)
        mask = np.zeros((height, width), dtype=np.bool_)
    if decode.region is not None:
        mask = decode.region.cut_mask(mask)
    height, width = mask.shape
    if decode.fit == "crop":
        left, top, right, bottom = middle(width, height)
        mask = mask[top:bottom, left:right]
        height, width = mask.shape
    box = None
    if decode.fit == "pad":
        # The part of the map that shows the picture and not the bars beside it.
        inner = [side / max(width, height) * heat.shape[0] for side in (width, height)]
        left, top = ((heat.shape[0] - side) / 2 for side in inner)
        box = (left, top, left + inner[0], top + inner[1])
    stretched = Image.fromarray(np.ascontiguousarray(heat)).resize(
        (width, height), Image.Resampling.BILINEAR, box=box
    )
    return np.asarray(stretched, dtype=np.float32), mask


def _unseen(decode: DecodeSettings, row: ManifestRow, mask: MaskArray) -> str:
    """Why an anomaly cannot be found, as the model does not look where it is; empty where it can."""
    blank = np.zeros((1, 1), dtype=np.float32)
    return "" if _at_one_size(blank, row, mask, decode)[1].any() else "it lies outside of what is looked at."


def _measure(
    config: RunConfig, rows: list[ManifestRow], masks: list[Path | None], counts: PixelCounts
) -> dict[str, Localisation]:
    """All anomalies, and each kind of them against all normal images."""
    groups = group_numbers(rows)
    kind_of = [None if mask is None else row.subtype or "" for row, mask in zip(rows, masks, strict=True)]
    names = sorted(Counter(kind for kind in kind_of if kind is not None))
    chosen = {_ALL: np.arange(len(rows))}
    if len(names) > 1:
        chosen |= {name: np.flatnonzero([k is None or k == name for k in kind_of]) for name in names}
    return {
        name: counts.measure(places, groups[places], n_replicates=config.recipe.bootstrap, seed=config.seed)
        for name, places in chosen.items()
    }


def _examples(rows: list[ManifestRow], masks: list[Path | None], counts: PixelCounts) -> list[dict[str, Any]]:
    """The anomalies with the highest, the median and the lowest pixel AUROC of their own; ties by path."""
    measured = [
        (auroc, row)
        for place, (row, mask) in enumerate(zip(rows, masks, strict=True))
        if mask is not None and np.isfinite(auroc := counts.image_auroc(place))
    ]
    measured.sort(key=lambda each: (-each[0], each[1].path))
    places = sorted({0, len(measured) // 2, len(measured) - 1}) if measured else []
    return [
        {"path": row.path, "mask": row.mask, "kind": row.subtype or "", "pixel_auroc": auroc}
        for auroc, row in (measured[place] for place in places)
    ]


def _documents(kinds: dict[str, Localisation]) -> list[dict[str, Any]]:
    return [{"kind": kind, **_facts(found)} for kind, found in kinds.items()]


def _facts(found: Localisation) -> dict[str, Any]:
    def figure(each: Figure) -> dict[str, float]:
        return {"value": each.value, "low": each.low, "high": each.high}

    return {
        "images": found.images,
        "anomalous": found.anomalous,
        "regions": found.regions,
        "pixel_auroc": figure(found.pixel_auroc),
        "pro": figure(found.pro),
    }


def _print(
    config: RunConfig, measured: dict[str, dict[str, Localisation]], left_out: list[dict[str, str]]
) -> None:
    table = Table(title=f"{escape(config.spec.name)}: where the maps point, with 95 % intervals")
    table.add_column("map")
    table.add_column("anomalies")
    for heading in ("images", "regions", "pixel AUROC", "PRO"):
        table.add_column(heading, justify="right")
    for map_name, kinds in measured.items():
        for name, found in kinds.items():
            cells = [f"{f.value:.3f}\n{f.low:.3f} to {f.high:.3f}" for f in (found.pixel_auroc, found.pro)]
            shown = escape(map_name) if name == _ALL else ""
            table.add_row(shown, escape(name), f"{found.anomalous}", f"{found.regions}", *cells)
        table.add_section()
    console.print(table)
    note(_SENTENCE)
    if left_out:
        first = left_out[0]
        note(
            f"Test anomalies that are left out: {len(left_out)}; the first: {first['path']}: "
            f"{first['reason']}"
        )
