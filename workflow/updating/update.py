"""``update``: add corrected images to a finished run and refit.

With a test set no member is trained. Images that were flagged but are normal (``--normal``) enter the banks
of members that have one, and the stacker's rows; minority images that were missed (``--missed``) enter the
stacker's rows. Then stacker, calibrator and threshold are fitted again and the file is exported through its
gate, as ``ensemble`` does. :mod:`workflow.run.feedback_scores` says why the scores stay valid.

Without a test set there are few labels, and each is worth more than a training that takes seconds: the images
join the training images (:attr:`workflow.run.prepared.PreparedData.joined`), and the first of the minority
bring supervised members.

The steps come in this order, so that a kill at any moment leaves a run that works, and the same command
continues:

1. open every image; say which cannot be used, and why;
2. copy the new ones into ``added/``, and the model file to ``model-<digest>.onnx``;
3. write ``added.json``: from here on the update is decided, though not yet carried out;
4. train where the images join the training images, and do all that ``ensemble`` does; ``model.onnx`` is
   replaced when the new file has passed its gate.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contracts.errors import DataError, ImageError, ModelError, UsageError
from contracts.files import atomic_writer
from imagedata.decoding.decode import decode_bytes, read_image_bytes
from imagedata.layouts.walk import image_files, images_of_other_endings
from reporting.terminal import note, progress_bar
from workflow.ensembling.ensemble import ensemble
from workflow.run.feedback import FOLDER, FeedbackImage, FeedbackImages, RowGuard
from workflow.run.prepared import FeedbackChangedError, PreparedData
from workflow.run.put_aside import AsideImage, PutAside, objections_of_all
from workflow.run.state import Run
from workflow.run.summary import other_endings_sentence
from workflow.settings.config import RunConfig, RunOptions
from workflow.training.train import train_all
from workflow.updating.effects import MISSED, NORMAL, Given, effects, kept_model, print_effects

Images = Path | Sequence[Path]
"""A folder, an image, or several of them."""


class NothingUsableError(DataError):
    """Not one of the images given can be used.

    Attributes:
        given: all of them, each with its reason.
    """

    def __init__(self, given: Sequence[Given]) -> None:
        super().__init__(
            f"none of {len(given)} images can be used; the first: {given[0].file}: {given[0].reason}."
        )
        self.given = tuple(given)


def update(
    options: RunOptions,
    normal: Images | None,
    missed: Images | None,
    held_back: Sequence[AsideImage] = (),
) -> dict[str, Any]:
    """Add feedback images to a finished run and refit what depends on scores.

    Args:
        options: which run.
        normal: folders or files of images that were flagged though they are of the majority.
        missed: folders or files of minority images that were not flagged.
        held_back: images with copies in the run folder that are put aside for good, before anything is added.

    Returns:
        ``{dataset, recipe, model, replaced, added, skipped, images, taken_in, measured, figures, regime,
        joined_training, seconds}``: counts added now, images that were not used with reasons, probability,
        p_normal and decision of each image before and after, what banks have taken in, and the ensemble's
        figures and regime before and after.

    Raises:
        UsageError: no folder named, or one that does not exist; ``normal`` with more than two classes.
        DataError: not one image can be used.
        ModelError: the run is not finished, or the new file fails its gate; the old one then stays.
    """
    started = time.monotonic()
    run = Run.open(options)
    config = run.config
    named = ((NORMAL, normal), (MISSED, missed))
    folders = {
        option: (images,) if isinstance(images, Path) else tuple(images)
        for option, images in named
        if images is not None
    }
    _check_folders(config, folders)
    try:
        data = run.data
    except FeedbackChangedError:
        # An earlier update was interrupted between writing added.json and training, or it was edited.
        train_all(options)
        run = Run.open(options)
        data = run.data
    known = FeedbackImages.read(config.folder)
    is_finished = _check_finished(run, known)
    given = _looked_at_and_judged(config, data, known, folders, held_back)
    for each in given:
        if each.status in {"skipped", "repeated"}:
            note(f"{each.file} is not used: {each.reason}.")
    new = [each for each in given if each.status == "new"]
    if not new and not any(each.status == "known" for each in given):
        raise NothingUsableError(given)
    if new:
        known = _add(config, known, new)
    # An interrupted update has written added.json, and only the fit is missing.
    if new or not is_finished:
        if not data.test:
            train_all(options)
        ensemble(options)
    else:
        note(f"Nothing to do: all {len(given)} images were added before, and the model includes them.")
    document = effects(config, known, given)
    document["seconds"] = round(time.monotonic() - started, 3)
    print_effects(config, document)
    return document


def _looked_at_and_judged(
    config: RunConfig,
    data: PreparedData,
    known: FeedbackImages,
    folders: dict[str, tuple[Path, ...]],
    held_back: Sequence[AsideImage],
) -> list[Given]:
    """Open and judge the images; what is held back is put aside first, so that no copy of it trains."""
    aside = PutAside.read(config.folder, "held_back")
    there = {row.sha256 for row in aside.rows}
    more = tuple(row for row in held_back if row.sha256 not in there)
    if more:
        replace(aside, rows=(*aside.rows, *more)).write()
    return _judge(config, data, known, _look_at(config, folders))


def _check_folders(config: RunConfig, folders: dict[str, tuple[Path, ...]]) -> None:
    if not any(folders.values()):
        raise UsageError(
            "update: no images named. Give --normal FOLDER (flagged, but normal) or --missed FOLDER."
        )
    for option, paths in folders.items():
        for path in paths:
            if not path.exists():
                raise UsageError(f"{option} {path}: does not exist. Name a folder of images, or one image.")
    if NORMAL in folders and len(config.spec.classes) > 2:
        raise UsageError(
            f"--normal: {config.spec.name} has {len(config.spec.classes)} classes, and which one these "
            "images belong to is unknown. Add them to the data set and train again; --missed works."
        )


def _check_finished(run: Run, known: FeedbackImages) -> bool:
    """Whether everything is fitted already.

    Raises:
        ModelError: the ensemble was never finished, so that there is nothing to update. An update that was
            interrupted, or a training after one, is no reason: fitting continues from there.
    """
    if run.finished is not None:
        return True
    if not known.rows:
        raise ModelError(
            f"{run.folder}: no finished ensemble of these members and settings to update. "
            f"First run: {run.config.options.command('ensemble')}"
        )
    return False


def _look_at(config: RunConfig, folders: dict[str, tuple[Path, ...]]) -> list[Given]:
    """Open every image once, in the order of their names."""
    labels = {NORMAL: config.spec.class_names[0], MISSED: config.spec.class_names[-1]}
    listed = []
    for option, folder in ((option, path) for option, paths in folders.items() for path in paths):
        files = [folder] if folder.is_file() else list(image_files(folder))
        if not files:
            raise DataError(f"{option} {folder}: holds no images. Name a folder of images, or one image.")
        others = {} if folder.is_file() else images_of_other_endings(folder)
        if others:
            note(other_endings_sentence(others))
        base = folder.parent if folder.is_file() else folder
        listed += [(option, file, file.relative_to(base).as_posix()) for file in files]
    given = []
    with progress_bar(f"looking at {len(listed)} images", len(listed)) as bar:
        for option, file, path in listed:
            each = Given(option, file, path, labels[option])
            try:
                content = read_image_bytes(file)
                decoded = decode_bytes(content, config.decode)
            except ImageError as error:
                given.append(replace(each, status="skipped", reason=str(error).rstrip(".")))
            else:
                given.append(
                    replace(
                        each,
                        sha256=hashlib.sha256(content).hexdigest(),
                        width=decoded.width,
                        height=decoded.height,
                        mode=decoded.mode,
                    )
                )
            bar.advance()
    return given


def _judge(config: RunConfig, data: PreparedData, known: FeedbackImages, given: list[Given]) -> list[Given]:
    """Decide for each image whether it is new and may be added."""
    # Not data.own_train, in which images that were labelled since are missing.
    guard = RowGuard(config.spec, data.manifest.usable("train"), data.test)
    label_of_known = {row.sha256: row.label for row in known.rows}
    options_of: dict[str, set[str]] = {}
    for each in given:
        options_of.setdefault(each.sha256, set()).add(each.option)
    first_with: dict[str, Path] = {}
    judged = []
    for each in given:
        status, reason = each.status, each.reason
        if status == "new":
            before = label_of_known.get(each.sha256)
            if len(options_of[each.sha256]) > 1:
                status, reason = "skipped", "the same file is given as --normal and as --missed"
            elif each.sha256 in first_with:
                status, reason = "repeated", f"the same file as {first_with[each.sha256]}"
            elif before is not None and before != each.label:
                status, reason = "skipped", f"it was added as {before} before"
            elif objection := guard.objection(each.path, each.sha256):
                status, reason = "skipped", objection
            elif before is not None:
                status, reason = "known", "it was added before"
            first_with.setdefault(each.sha256, each.file)
        judged.append(replace(each, status=status, reason=reason))
    return _without_put_aside(config, judged)


def _without_put_aside(config: RunConfig, judged: list[Given]) -> list[Given]:
    """Refuse images that never train, and near copies of them."""
    new = [each for each in judged if each.status == "new"]
    objections = objections_of_all(
        config.folder, [each.file for each in new], [each.sha256 for each in new], config.spec.window
    )
    refused = {id(each): objection for each, objection in zip(new, objections, strict=True) if objection}
    return [
        replace(each, status="skipped", reason=refused[id(each)]) if id(each) in refused else each
        for each in judged
    ]


def _add(config: RunConfig, known: FeedbackImages, new: Sequence[Given]) -> FeedbackImages:
    """Steps 2 and 3 of the module's docstring."""
    number = len(known.replaced)
    rows = []
    for each in new:
        name = f"{each.sha256}{each.file.suffix.lower()}"
        # Read again rather than held: thousands of images need not fit into memory. The digest shows whether
        # it is still the same.
        content = read_image_bytes(each.file)
        if hashlib.sha256(content).hexdigest() != each.sha256:
            raise DataError(f"{each.file}: it changed while it was being read. Run the same command again.")
        with atomic_writer(config.folder / FOLDER / name) as handle:
            handle.write(content)
        rows.append(
            FeedbackImage(
                sha256=each.sha256,
                label=each.label,
                given=str(each.file.absolute()),
                path=each.path,
                name=name,
                width=each.width,
                height=each.height,
                mode=each.mode,
                update=number,
            )
        )
    added = FeedbackImages((*known.rows, *rows), (*known.replaced, _keep_model(config)))
    added.write(config.folder)
    return added


def _keep_model(config: RunConfig) -> str:
    """Copy the model file to a name of its own; returns its SHA-256, empty where there is none."""
    model = config.folder / "model.onnx"
    if not model.exists():
        return ""
    content = model.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    kept = kept_model(config, digest)
    if not kept.exists():
        with atomic_writer(kept) as handle:
            handle.write(content)
    return digest
