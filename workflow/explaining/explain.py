"""``explain``: why an image got its probability or score, and the normal patches it was compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from contracts.errors import DataError, ImageError, UsageError
from contracts.files import atomic_writer
from contracts.rows import FloatArray, ImageArray
from contracts.text import printable
from ensemble.explanation import MemberShare, member_shares
from imagedata.decoding.decode import decode_at_stored_size, decode_bytes, decode_file, read_image_bytes
from imagedata.decoding.formats import IMAGE_SUFFIXES
from imagedata.manifest_row import ManifestRow
from reporting.terminal import console, note
from workflow.run.feedback import FeedbackImages
from workflow.run.state import Run
from workflow.settings.config import RunOptions

if TYPE_CHECKING:
    from reporting.explanation import ExplanationFigure, Place
    from workflow.explaining.attribution import AllEvidence, Evidence

OnFigure = Callable[["ExplanationFigure"], None]

_NEAREST = 3
_LONGEST_WHOLE = 640  # pixels
_OF_SPLIT = {
    "train": "a training image: the members have learned from it, so their scores are too optimistic",
    "test": "a test image",
    "added": "a feedback image",
}
_OUT_OF_FOLD = "a training image: its scores are by members that did not see it"


@dataclass(frozen=True)
class _Image:
    """An image to be explained; ``whole`` shows where the region of interest lies, if there is one."""

    path: Path
    sha256: str
    pixels: ImageArray
    whole: ImageArray | None = None


def explain(
    options: RunOptions,
    images: Sequence[Path],
    output: Path | None = None,
    on_figure: OnFigure | None = None,
) -> dict[str, Any]:
    """Explain a finished run's decisions on images.

    Args:
        options: which run.
        images: files.
        output: folder for one picture per image (default: ``explanations`` in the run folder).
        on_figure: is handed each picture as a figure, once its file is written.

    Returns:
        ``{dataset, recipe, output, threshold, notes, images, failed}``. An image: path, sha256, split, label,
        is_out_of_fold (whether its scores are by members that did not see it, which takes a training image
        and no test set), probability (None without labels), p_normal, decision, members (score, contribution,
        shares of rows that score lower), map (of the member that names deciding patches, or else of the one
        with the largest weight), maps (of all members together and of each: name, member or None, unit,
        largest value and its place, usual values), patches (place and distance, with the nearest normal
        patches: path, place, distance) and picture. Places are rows and columns from 0, and a box as shares
        of the sides of what the model sees.

    Raises:
        UsageError: no image named, or one that does not exist.
        DataError: no image can be used, or a training image to be shown is gone.
        ModelError: the run is not finished; says which command to run.
    """
    _check(options, images, output)
    run = Run.open(options).require_ensemble()
    usable, failed = _read(run, images)
    if not usable:
        raise DataError(f"{failed[0]['path']}: {failed[0]['reason']}")
    # torch is imported from here on, when there is something to explain.
    from workflow.explaining.attribution import evidence_of

    with console.status("scoring with every member", spinner="dots"):
        evidence = evidence_of(run, [(each.path, each.sha256, each.pixels) for each in usable], _NEAREST)
    folder = output or run.config.folder / "explanations"
    explained = []
    with console.status("drawing", spinner="dots"):
        known = _known_rows(run)
        for image, found in zip(usable, evidence.of_images, strict=True):
            facts, figure = _explained(run, image, found, evidence, known)
            explained.append({**facts, "picture": _keep(figure, image, folder)})
            if on_figure is not None:
                on_figure(figure)
    document: dict[str, Any] = {
        "dataset": run.config.spec.name,
        "recipe": run.config.recipe.name,
        "output": str(folder),
        "threshold": run.fitted.threshold,
        "notes": list(evidence.notes),
        "images": explained,
        "failed": failed,
    }
    _print(run, document)
    return document


def _check(options: RunOptions, images: Sequence[Path], output: Path | None) -> None:
    if Path(options.dataset).suffix.lower() in IMAGE_SUFFIXES and Path(options.dataset).is_file():
        raise UsageError(
            f"{options.dataset}: that is an image, not a data set. "
            "Write: python cli.py explain DATASET IMAGE..."
        )
    if not images:
        raise UsageError("explain: no image named. Write: python cli.py explain DATASET IMAGE...")
    for path in images:
        if path.is_dir():
            raise UsageError(f"{path}: that is a folder. Name the images, such as {path}/*.png.")
        if not path.exists():
            raise UsageError(f"{path}: does not exist. Name an image.")
    if output is not None and output.exists() and not output.is_dir():
        raise UsageError(f"--output {output}: that is a file. Name a folder for the pictures.")


def _read(run: Run, images: Sequence[Path]) -> tuple[list[_Image], list[dict[str, str]]]:
    usable, failed = [], []
    for path in images:
        try:
            content = read_image_bytes(path)
            pixels = decode_bytes(content, run.config.decode).pixels
            whole = _whole(run, content)
        except ImageError as error:
            failed.append({"path": str(path), "reason": str(error)})
        else:
            usable.append(_Image(path, hashlib.sha256(content).hexdigest(), pixels, whole))
    return usable, failed


def _whole(run: Run, content: bytes) -> ImageArray | None:
    """The whole picture with its region of interest, small enough for a page; None without a region."""
    region = run.config.region
    if region is None:
        return None
    picture = decode_at_stored_size(content, run.config.spec.window)
    region.bounds(picture.size)
    picture.thumbnail((_LONGEST_WHOLE, _LONGEST_WHOLE))
    return region.drawn_on(picture)


@dataclass(frozen=True)
class _KnownRow:
    """A row of the run: what it is, its file, and the name that people know."""

    row: ManifestRow
    file: Path
    name: str


def _known_rows(run: Run) -> dict[str, _KnownRow]:
    """Digest → row, of training rows, test rows and feedback images."""
    known = {}
    for row in (*run.data.train, *run.data.test):
        file = run.data.file_of(row)
        known[row.sha256] = _KnownRow(row, file, file.name)
    name_of = {row.sha256: Path(row.path).name for row in FeedbackImages.read(run.config.folder).rows}
    for row in run.data.added:
        known[row.sha256] = _KnownRow(row, run.data.file_of(row), name_of[row.sha256])
    return known


def _explained(
    run: Run,
    image: _Image,
    found: Evidence,
    evidence: AllEvidence,
    known: dict[str, _KnownRow],
) -> tuple[dict[str, Any], ExplanationFigure]:
    """One image's part of the document, and its picture."""
    from reporting.explanation import Explanation, Place, ShownMap, ShownPatch, draw

    fitted = run.fitted
    own = known.get(image.sha256)
    row = own.row if own else None
    held_out = _out_of_fold_scores(run, row)
    scores = found.scores if held_out is None else held_out
    probability = float(fitted.minority_probability(scores[None])[0]) if fitted.has_probability else None
    p_normal = float(fitted.p_normal(scores[None])[0])
    decision = fitted.class_names[int(fitted.decide(scores[None])[0])]
    shares = member_shares(fitted, run.oof, scores)
    patches, shown = [], []
    for patch in found.patches:
        place = Place(patch.cell, evidence.grid)
        neighbours, crops = [], []
        for near in patch.nearest:
            source = known[near.sha256]
            near_place = Place(near.cell, evidence.grid)
            neighbours.append(
                {
                    "path": str(source.file),
                    "name": source.name,
                    "distance": near.distance,
                    **_place(near_place),
                }
            )
            crops.append(ShownPatch(_pixels(run, source.file), near_place, source.name, near.distance))
        patches.append({**_place(place), "distance": patch.distance, "nearest": neighbours})
        shown.append((ShownPatch(image.pixels, place, "", patch.distance), crops))
    figure = draw(
        Explanation(
            name=image.path.name,
            verdict=_verdict(run, probability, p_normal, decision),
            pixels=image.pixels,
            whole=image.whole,
            maps=[
                ShownMap(name, heat, evidence.maps[name].usual, evidence.maps[name].unit)
                for name, heat in found.maps.items()
            ],
            contributions=[(share.member, share.contribution) for share in shares],
            unit="log-odds" if fitted.has_probability else "score",
            patches=shown,
        )
    )
    maps = [_map(name, heat, evidence) for name, heat in found.maps.items()]
    facts = {
        "path": str(image.path),
        "sha256": image.sha256,
        "split": None if row is None else row.split,
        "label": None if row is None else row.label,
        "is_out_of_fold": held_out is not None,
        "probability": probability,
        "p_normal": p_normal,
        "decision": decision,
        "members": [asdict(share) for share in shares],
        "map": next((_without(each, "map", "unit", "at") for each in maps if each["member"]), None),
        "maps": maps,
        "patches": patches,
    }
    return facts, figure


def _keep(figure: ExplanationFigure, image: _Image, folder: Path) -> str:
    """Write a picture; returns where it lies."""
    from reporting.explanation import png

    path = folder / f"{image.path.stem}-{image.sha256[:12]}.png"
    with atomic_writer(path) as handle:
        handle.write(png(figure))
    return str(path)


def _map(name: str, heat: FloatArray, evidence: AllEvidence) -> dict[str, Any]:
    """A map's part of the document."""
    from reporting.explanation import Place
    from workflow.explaining.attribution import TOGETHER

    half, most = evidence.maps[name].usual
    return {
        "map": name,
        "member": None if name == TOGETHER else name,
        "unit": evidence.maps[name].unit or None,
        "largest": float(heat.max()),
        "at": _place(Place(int(heat.argmax()), heat.shape[1])),
        "usual": {"half": half, "most": most},
    }


def _without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


def _out_of_fold_scores(run: Run, row: ManifestRow | None) -> FloatArray | None:
    """``[M]`` scores of a training image by members that did not see it; None for all other images.

    Where a test set is held out, training images are scored like new ones, as they always were: there it is
    the test images that people ask about.
    """
    if row is None or run.data.test:
        return None
    paths = run.oof.row_ids.tolist()
    return run.oof.scores[paths.index(row.path)] if row.path in paths else None


def _place(place: Place) -> dict[str, Any]:
    row, column = divmod(place.cell, place.grid)
    return {"row": row, "column": column, "grid": place.grid, "box": list(place.box)}


def _verdict(run: Run, probability: float | None, p_normal: float, decision: str) -> str:
    """What was decided and by which number, in a line."""
    threshold = run.fitted.threshold
    limit = f", threshold {threshold:.4f}" if isinstance(threshold, float) else ""
    if probability is None:
        return f"p_normal = {p_normal:.4f}{limit}: decided {decision}"
    named = f"p({run.fitted.class_names[-1]}) = {probability:.4f}{limit}"
    return f"{named}, p_normal {p_normal:.4f}: decided {decision}"


def _pixels(run: Run, file: Path) -> ImageArray:
    try:
        return decode_file(file, run.config.decode).pixels
    except ImageError as error:
        raise DataError(
            f"{file}: {error} The bank holds a patch of it that would be shown. Restore the file."
        ) from error


def _print(run: Run, document: dict[str, Any]) -> None:
    minority = run.fitted.class_names[-1]
    for image in document["images"]:
        verdict = _verdict(run, image["probability"], image["p_normal"], image["decision"])
        table = Table(title=escape(printable(f"{Path(image['path']).name}: {verdict}")))
        table.add_column("member", no_wrap=True)
        has_probability = image["probability"] is not None
        share_of = "log-odds" if has_probability else "share of score"
        for heading in (
            "score",
            share_of,
            "above others",
            *([f"above {minority}"] if has_probability else []),
        ):
            table.add_column(escape(printable(heading)), justify="right")
        for share in sorted(image["members"], key=lambda share: -abs(share["contribution"])):
            shown = MemberShare(**share)
            table.add_row(
                shown.member,
                f"{shown.score:.4g}",
                f"{shown.contribution:+.3f}",
                f"{100 * shown.above_majority:.0f} %",
                *([f"{100 * shown.above_minority:.0f} %"] if shown.above_minority is not None else []),
            )
        console.print(table)
        if image["split"] is not None:
            what = _OUT_OF_FOLD if image["is_out_of_fold"] else _OF_SPLIT[image["split"]]
            # Without labels every image carries the label that most are taken to have.
            label = "" if run.data.regime == "unlabelled" else f"; its label is {image['label']}"
            note(f"It is {what}{label}.")
        for each in image["maps"]:
            place = each["at"]
            note(
                f"Map {each['map']}: highest at row {place['row'] + 1}, column {place['column'] + 1} of "
                f"{place['grid']}, {each['largest']:.3g}; of normal patches one in 200 lies above "
                f"{each['usual']['most']:.3g}."
            )
        for number, patch in enumerate(image["patches"], 1):
            nearest = ", ".join(
                f"{near['name']} (row {near['row'] + 1}, column {near['column'] + 1}; {near['distance']:.3g})"
                for near in patch["nearest"]
            )
            note(
                f"Patch {number}, row {patch['row'] + 1}, column {patch['column'] + 1} of {patch['grid']}, "
                f"{patch['distance']:.3g} from the bank; nearest normal patches: {nearest}."
            )
        note(f"Picture: {image['picture']}")
    for sentence in document["notes"]:
        note(sentence)
    for failure in document["failed"]:
        note(f"{failure['path']} cannot be explained: {failure['reason']}")
