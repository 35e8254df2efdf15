"""``--dry-run``: what a training command would do, and what it would take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from features.devices import pick_device
from reporting.terminal import console, note
from workflow.run.copies.views import views_of_run
from workflow.run.fits import Fit, fits_of, read_result
from workflow.run.kinds import kind_fits_of
from workflow.run.label_curve import kept_curve
from workflow.run.prepared import PreparedData, prepare_to_train
from workflow.run.reading import print_reading, reading_of
from workflow.run.sample_size import facts_of_rows
from workflow.run.summary import print_data_facts
from workflow.settings.chosen import read_chosen
from workflow.settings.config import RunConfig, RunOptions, resolve_config
from workflow.training.estimates import fit_seconds, rows_to_fit

_PROBE_IMAGES = 16


def dry_run(options: RunOptions, only: Sequence[str] = ()) -> dict[str, Any]:
    """Print and return counts, folds, members, estimated time and disk; trains nothing and writes no run.

    Files are inspected as in training. The findings, augmented copies and the backbone's fast form are kept
    for the training. What more labels would buy is said where ``report`` has measured it in this run folder.
    """
    config = resolve_config(options)
    members = tuple(config.member(name) for name in only) or config.members
    data = prepare_to_train(config)
    if config.left_to_choose and not read_chosen(config.folder):
        note(
            f"Training begins with a choice of {' and '.join(config.left_to_choose)} on at most 450 training "
            "images; what follows is of the defaults."
        )
    facts = print_data_facts(config, data)
    reading = reading_of(config)
    print_reading(reading)
    support = facts_of_rows(data.manifest, config.recipe.folds)["support"]
    # What the labels are has been said with the facts above.
    said = {"labels", "held_out", *(() if data.regime == "labelled" else ("supervision",))}
    for each in support:
        if each["name"] not in said:
            note(each["sentence"])
    fits = [*fits_of(config, data, members), *kind_fits_of(config, data, members)]
    pending = [fit for fit in fits if read_result(fit) is None]
    seconds, disk = _features_estimate(config, data, pending)
    estimates = {}
    for plan in members:
        mine = [fit for fit in pending if fit.member.name == plan.name]
        estimates[plan.name] = round(sum(fit_seconds(plan, rows_to_fit(plan, data)) for _ in mine), 1)
    table = Table(title=f"recipe {config.recipe.name}: {len(pending)} of {len(fits)} fits to train")
    for heading in ("member", "type", "backbone", "estimated seconds"):
        table.add_column(heading, justify="right" if heading.startswith("est") else "left")
    for plan in members:
        table.add_row(plan.name, plan.type, plan.backbone.name, f"{estimates[plan.name]:.0f}")
    console.print(table)
    total = seconds + sum(estimates.values())
    note(
        f"About {total / 60:.1f} minutes ({seconds:.0f} s of it backbone features, as measured just now; "
        f"members by rates of a 2-core machine) and {disk / 1e6:,.0f} MB of new files below {options.runs}."
    )
    curve = kept_curve(config)
    if curve is not None:
        note(curve["sentence"])
    return {
        **facts,
        **reading,
        "support": support,
        "learning_curve": curve,
        "members": estimates,
        "fits": len(fits),
        "fits_pending": len(pending),
        "estimated_seconds": round(total, 1),
        "estimated_bytes": disk,
    }


def _features_estimate(config: RunConfig, data: PreparedData, pending: list[Fit]) -> tuple[float, int]:
    """Seconds and bytes of the features still missing, from timing a few images through each backbone."""
    if not pending:
        return 0.0, 0
    from features.cache import bytes_per_image
    from features.graphs.runner import backbone_runner
    from workflow.run.features import backbones_read_by, load_backbones

    device = pick_device(config.options.device)
    seconds, size = 0.0, 0
    backbones = load_backbones(config, backbones_read_by(fit.member for fit in pending))
    for settings, loaded in backbones.items():
        digests = {row.sha256 for row in (*data.train, *data.test, *data.augmented)}
        reading = [fit.member for fit in pending if fit.member.backbone == settings]
        digests |= {view.digest for _, view in views_of_run(config, data, reading)}
        missing = {digest for digest in digests if digest not in loaded.store}
        side = config.decode.size
        images = np.zeros((_PROBE_IMAGES, side, side, 3), dtype=np.uint8)
        run = backbone_runner(loaded.backbone, loaded.store.folder, device)
        run(images)
        started = time.perf_counter()
        run(images)
        # The first call, above, also loads and allocates, so the second is timed.
        per_image = (time.perf_counter() - started) / _PROBE_IMAGES
        seconds += per_image * len(missing)
        size += bytes_per_image(loaded.backbone.shapes) * len(missing)
    return seconds, size
