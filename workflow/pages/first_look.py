"""The report of a run without labels: which images to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from contracts.rows import FloatArray, ImageArray
from ensemble.fitted import FittedEnsemble
from features.rows import read_pixels
from reporting.first_look_page import FirstLookPage, LookedAt, render_first_look
from workflow.ensembling.first_look import Candidate, choose_first_look
from workflow.ensembling.stability import stability_of
from workflow.pages.localisation import localised
from workflow.pages.maps import maps_of
from workflow.pages.origin import left_out_images, origin_of
from workflow.run.regime import regime_sentences
from workflow.run.state import Run
from workflow.run.summary import data_facts

_ALIKE = 0.7
"""Cosine from which an image is said to be like another one."""


def first_look_page(run: Run, output: Path | None, pictures: bool) -> str:
    """The page of a run whose ensemble is fitted, as text.

    Args:
        run: without a labelled minority image.
        output: target that the user named; part of the command that makes the page again.
        pictures: show images of the data set.

    Raises:
        ModelError: no ensemble yet, or one of other settings; says which command to run.
        DataError: an image to be shown has gone.
    """
    config, data = run.config, run.data
    fitted, table = run.require_ensemble().fitted, run.oof
    chosen = choose_first_look(run, fitted, table)
    scores = fitted.fused_scores(table.scores)
    limit = _limit(fitted)
    images, heat_source = _looked_at(run, chosen, limit, pictures)
    command = config.options.command
    arguments = [] if output is None else ["--output", str(output)]
    arguments += [] if pictures else ["--no-pictures"]
    minority = data.manifest.class_names[-1]
    return render_first_look(
        FirstLookPage(
            dataset=config.spec.name,
            recipe=config.recipe.name,
            title=config.spec.title or config.spec.name,
            source=config.spec.source,
            licence=config.spec.licence,
            regime=data.regime,
            minority=minority,
            promises=regime_sentences(config, data),
            sentences=fitted.sentences,
            scores=scores,
            limit=limit,
            alpha=fitted.binary_threshold,
            flagged=int((fitted.p_normal(table.scores) <= fitted.binary_threshold).sum()),
            members=table.member_names,
            images=images,
            heat_source=heat_source,
            label_commands=[
                (
                    f"Images of “{minority}” and normal ones",
                    command("update", "--missed", "FOLDER", "--normal", "FOLDER"),
                ),
                ("Then this page again, or the report of a run with labels", command("report", *arguments)),
            ],
            facts=data_facts(config, data),
            left_out_images=left_out_images(data),
            origin=origin_of(
                run, [command("train-all"), command("ensemble"), command("report", *arguments)], {}
            ),
            localised=localised(run, pictures),
            stability=stability_of(run, pictures),
        )
    )


def _limit(fitted: FittedEnsemble) -> float:
    """The fused score above which p_normal is at most alpha."""
    levels = np.array(fitted.normal.levels)
    # levels[j] holds behind j knots, and the last one, 1 / (n + 1), is never above alpha.
    steps = int(np.argmax(levels <= fitted.binary_threshold))
    return fitted.normal.knots[max(0, steps - 1)]


def _looked_at(
    run: Run, chosen: Sequence[Candidate], limit: float, pictures: bool
) -> tuple[list[LookedAt], str]:
    """The chosen images with their pictures and maps, and where the maps come from."""
    pixels: ImageArray | None = None
    maps: FloatArray | None = None
    heat_source = ""
    if pictures:
        row_of = {row.path: row for row in [*run.data.train, *run.data.added]}
        rows = [row_of[each.path] for each in chosen]
        pixels = read_pixels([run.data.file_of(row) for row in rows], run.config.decode)
        maps, heat_source = maps_of(run, rows, pixels)
    rank_of = {each.path: each.rank for each in chosen}
    return [
        LookedAt(
            rank=each.rank,
            path=each.path,
            score=each.score,
            p_normal=each.p_normal,
            decided=each.score > limit,
            copies=each.family_size - 1,
            like=rank_of[each.nearest] if each.nearest and each.similarity >= _ALIKE else None,
            pixels=None if pixels is None else pixels[place],
            heat=None if maps is None else maps[place],
        )
        for place, each in enumerate(chosen)
    ], heat_source
