"""``explore``: look at a data set before and after training, as pictures and one HTML page."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.markup import escape
from rich.table import Table

from contracts.errors import UsageError
from contracts.files import write_text
from contracts.text import printable
from imagedata.manifest import Manifest
from reporting import explore_figures
from reporting.drawing import Drawing
from reporting.explore_page import (
    ExplorePage,
    FeatureMap,
    Outlier,
    Outliers,
    ShownSlide,
    SlidePicture,
    jpeg_of,
    render_explored,
)
from reporting.pictures import svg_uri
from reporting.terminal import console, note, progress_bar
from workflow.exploring.pictures import Album, class_sheets, size_and_grey_figures, slug
from workflow.exploring.slides import DrawnSlide, choose_slides, draw_slides, predictions_of, slides_of
from workflow.run.prepared import manifest_of
from workflow.settings.config import RunConfig, RunOptions, resolve_config

_LARGEST_GROUPS = 20
_SLIDE_BUDGET = 9_000_000
"""Bytes of slides on the page, so that it stays below 15 MB; further ones are files beside it."""


def explore(
    options: RunOptions, output: Path | None = None, with_map: bool = True, n_slides: int = 8
) -> dict[str, Any]:
    """Write the pictures and the page of a data set.

    Args:
        options: which data set; the recipe names the backbone, and the run whose probabilities are shown.
        output: folder; ``explored/<data set>`` below ``--runs`` when not given.
        with_map: compute backbone features and draw the embedding map.
        n_slides: slides to draw at most, where file names state coordinates.

    Returns:
        ``{dataset, recipe, output, page, bytes, counts, groups, outliers, slides, predictions, skipped,
        pictures, notes}``.

    Raises:
        UsageError: the output is a file.
        DataError: the data set is missing, or a class is empty.
    """
    config = resolve_config(options)
    folder = output or config.options.runs / "explored" / config.spec.name
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: that is a file. Name a folder for page and pictures.")
    manifest = manifest_of(config)
    album = Album(folder, config.spec.window)
    counts = _counts(manifest)
    groups = _groups(manifest, has_rule=config.spec.group is not None)
    sheets = class_sheets(config, manifest, album)
    figures, sizes_sentence = size_and_grey_figures(config, manifest, album)
    mapped, outliers = _map(config, manifest, album) if with_map else (None, [])
    slides, slide_facts, sentences = _slides(config, manifest, album, n_slides)
    notes = _notes(manifest, album)
    page = render_explored(
        ExplorePage(
            dataset=config.spec.name,
            title=config.spec.title or config.spec.name,
            headline=_headline(manifest),
            notes=notes,
            counts=counts,
            subtypes=_subtypes(manifest),
            sizes_sentence=sizes_sentence,
            figures=figures,
            groups=groups["largest"],
            groups_sentence=groups["sentence"],
            groups_figure=_groups_figure(groups),
            sheets=sheets,
            has_masks=any(row.mask for row in manifest.rows),
            map=mapped,
            slides=slides,
            slides_sentences=sentences,
        )
    )
    write_text(folder / "explore.html", page)
    document = {
        "dataset": config.spec.name,
        "recipe": config.recipe.name,
        "output": str(folder),
        "page": str(folder / "explore.html"),
        "bytes": len(page.encode("utf-8")),
        "counts": counts,
        "groups": {"number": len(groups["all"]), "largest": groups["largest"]},
        "outliers": outliers,
        "slides": slide_facts,
        "pictures": album.files,
        "skipped": album.skipped,
        "notes": [*notes, *sentences],
    }
    _print(config, document)
    return document


def _headline(manifest: Manifest) -> str:
    train, test = manifest.counts("train"), manifest.counts("test")
    minority = manifest.class_names[-1]
    n_minority, n_train = train[minority], sum(train.values())
    if n_minority:
        share = f"{n_minority:,} are of the minority class “{minority}”: 1 of {n_train / n_minority:.1f}"
    else:
        known = "has labels" if manifest.regime == "unlabelled" else f"is of the minority class “{minority}”"
        share = f"none {known}"
    held_out = "None is held out"
    if any(test.values()):
        held_out = f"{sum(test.values()):,} are held out, {test[minority]:,} of them “{minority}”"
    return f"{n_train:,} training images, of which {share}. {held_out}."


def _notes(manifest: Manifest, album: Album) -> list[str]:
    notes = []
    broken = [row for row in manifest.rows if row.status == "broken"]
    if broken:
        first = broken[0]
        notes.append(
            f"Broken images, which are skipped: {len(broken)}; the first: {first.path}: {first.reason}"
        )
    if album.skipped:
        path, reason = next(iter(album.skipped.items()))
        notes.append(
            f"Images that broke while they were read: {len(album.skipped)}; the first: {path}: {reason}"
        )
    return notes


def _counts(manifest: Manifest) -> list[dict[str, Any]]:
    rows = [row for row in manifest.rows if row.split != "augmented"]
    usable = Counter((row.label, row.split) for row in rows if row.status == "ok")
    others = Counter((row.label, row.status) for row in rows)
    return [
        {
            "label": name,
            "is_minority": name == manifest.class_names[-1],
            "train": usable[name, "train"],
            "test": usable[name, "test"],
            **{status: others[name, status] for status in ("broken", "excluded", "dropped")},
        }
        for name in manifest.class_names
    ]


def _subtypes(manifest: Manifest) -> list[dict[str, Any]]:
    usable = Counter((row.subtype, row.split) for row in manifest.rows if row.status == "ok" and row.subtype)
    names = sorted({name for name, _ in usable if name})
    return [{"label": name, "train": usable[name, "train"], "test": usable[name, "test"]} for name in names]


def _groups(manifest: Manifest, has_rule: bool) -> dict[str, Any]:
    """Usable images per group; without a rule or column every image stands for itself."""
    rows = [*manifest.usable("train"), *manifest.usable("test")]
    images: Counter[str] = Counter(row.group for row in rows)
    if not has_rule and len(images) == len({row.sha256 for row in rows}):
        return {"all": [], "largest": [], "sentence": ""}
    minority = Counter(row.group for row in rows if row.label == manifest.class_names[-1])
    split_of: dict[str, set[str]] = {}
    for row in rows:
        split_of.setdefault(row.group, set()).add("training" if row.split == "train" else "held out")
    crossing = sum(len(splits) > 1 for splits in split_of.values())
    found = [
        {
            "group": name,
            "images": count,
            "minority": minority[name],
            "split": " and ".join(sorted(split_of[name], reverse=True)),
        }
        for name, count in sorted(images.items(), key=lambda each: (-each[1], each[0]))
    ]
    sentence = (
        f"{len(found):,} groups (patients, lots) of {found[-1]['images']:,} to {found[0]['images']:,} usable "
        f"images. Groups without the minority class: {sum(not g['minority'] for g in found):,}. Groups "
        f"with images in both splits: {crossing}."
    )
    return {"all": found, "largest": found[:_LARGEST_GROUPS], "sentence": sentence}


def _groups_figure(groups: dict[str, Any]) -> Drawing | None:
    found = groups["all"]
    if not found:
        return None
    drawn = explore_figures.groups(
        np.array([group["images"] for group in found]),
        np.array([group["minority"] for group in found]),
        np.array(["held out" in group["split"] for group in found]),
    )
    return Drawing(
        "Every group",
        svg_uri(drawn),
        f"Share of the minority class over the number of images, one mark for each of {len(found)} groups.",
        "Groups differ: one with many images weighs more in training than all small ones together.",
    )


def _map(
    config: RunConfig, manifest: Manifest, album: Album
) -> tuple[FeatureMap | None, list[dict[str, Any]]]:
    from workflow.exploring.embedding_map import map_rows

    mapped = map_rows(config, manifest)
    if mapped is None:
        return None, []
    names = manifest.class_names
    svg = explore_figures.embedding(
        mapped.embedding.positions, mapped.labels, len(names), mapped.named, mapped.embedding.method
    )
    write_text(album.folder / "map.svg", svg)
    album.files.append("map.svg")
    legend = [
        (colour, letter, name)
        for (colour, _, letter), name in zip(explore_figures.marks_of(len(names)), names, strict=True)
    ]
    number_of = {position: number for number, position in enumerate(mapped.named, 1)}
    shown = []
    for label, positions in mapped.outliers.items():
        outliers = []
        for position in positions:
            small = album.thumbnail(manifest, mapped.rows[position])
            if small is not None:
                path, words = mapped.rows[position].path, mapped.words(position)
                outliers.append(Outlier(number_of[position], path, words, jpeg_of(Image.fromarray(small))))
        if outliers:
            shown.append(Outliers(names[label], outliers))
    figure = Drawing(
        "Images by their features",
        svg_uri(svg),
        f"{mapped.embedding.method} of {len(mapped.rows)} images by pooled features, marked by class, "
        f"with {len(mapped.named)} outliers numbered.",
        "Near means alike to the backbone. Numbers are of the outliers below. Distances between clusters "
        "mean little in t-SNE.",
        is_wide=True,
    )
    facts = [{"number": number_of[position], **mapped.facts(position)} for position in mapped.named]
    return FeatureMap(mapped.sentence, legend, figure, shown), facts


def _slides(
    config: RunConfig, manifest: Manifest, album: Album, count: int
) -> tuple[list[ShownSlide], list[dict[str, Any]], list[str]]:
    """Slides for the page, facts of all that were drawn, and what is to be said of them."""
    slides = slides_of(manifest, config.spec.group is not None)
    chosen = choose_slides(slides, manifest.class_names[-1], config.seed, count)
    if not chosen:
        return [], [], []
    predictions, of_run = predictions_of(config, manifest)
    shown: list[ShownSlide] = []
    facts: list[dict[str, Any]] = []
    used = 0
    with progress_bar(f"drawing {len(chosen)} slides", len(chosen)) as bar:
        for number, drawn in enumerate(draw_slides(config, manifest, slides, chosen, predictions), 1):
            pictures = _slide_pictures(drawn, number, manifest.class_names[-1], album)
            used += sum(len(each.uri) for each in pictures)
            if used <= _SLIDE_BUDGET:
                shown.append(ShownSlide(drawn.name, _slide_words(drawn), pictures))
            facts.append(drawn.facts())
            bar.advance()
    sentences = [
        f"{len(chosen)} of {len(slides):,} slides, put together from their patches by the coordinates in the "
        f"file names; drawn by a seed, slides with “{manifest.class_names[-1]}” first, held-out and training "
        "ones in turn.",
        of_run,
    ]
    if len(shown) < len(facts):
        sentences.append(f"{len(facts) - len(shown)} more would make the page too large and lie beside it.")
    return shown, facts, sentences


def _slide_pictures(drawn: DrawnSlide, number: int, minority: str, album: Album) -> list[SlidePicture]:
    stem = f"slide-{number:02d}-{slug(drawn.name)}"
    album.save(f"{stem}-labels.png", drawn.labels)
    pictures = [
        SlidePicture(
            jpeg_of(drawn.labels),
            f"Slide {drawn.name}: {drawn.minority} of {drawn.patches} patches labelled {minority}, outlined.",
            f"Labels: “{minority}” tinted and outlined.",
        )
    ]
    if drawn.probabilities is not None:
        album.save(f"{stem}-probabilities.png", drawn.probabilities)
        pictures.append(
            SlidePicture(
                jpeg_of(drawn.probabilities),
                f"Slide {drawn.name}: probabilities of {drawn.predicted} patches; {drawn.missed} missed, "
                f"{drawn.false_alarms} false alarms.",
                f"Probability of “{minority}”, pale 0 to dark 1; rings are missed ({drawn.missed}), crosses "
                f"false alarms ({drawn.false_alarms}). Fields without colour have no probability.",
            )
        )
    return pictures


def _slide_words(drawn: DrawnSlide) -> str:
    broken = f", {drawn.broken} broken" if drawn.broken else ""
    return f"{drawn.split}; {drawn.patches:,} patches{broken}"


def _print(config: RunConfig, document: dict[str, Any]) -> None:
    table = Table(title=escape(printable(f"{config.spec.name}: {config.spec.title or config.spec.name}")))
    table.add_column("class")
    for heading in ("training", "held out", "broken", "excluded", "dropped"):
        table.add_column(heading, justify="right")
    for row in document["counts"]:
        role = " (minority)" if row["is_minority"] else ""
        numbers = [f"{row[key]:,}" for key in ("train", "test", "broken", "excluded", "dropped")]
        table.add_row(escape(printable(row["label"])) + role, *numbers)
    console.print(table)
    for outlier in document["outliers"]:
        note(
            f"Outlier {outlier['number']}: {printable(outlier['path'])} ({printable(outlier['label'])}), "
            f"{outlier['ratio']:.1f} times as far from its class as usual."
        )
    for sentence in document["notes"]:
        note(printable(sentence))
    note(
        f"Page: {document['page']} ({document['bytes'] / 1e6:.1f} MB); {len(document['pictures'])} pictures "
        f"beside it."
    )
