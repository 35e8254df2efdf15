"""Ensembles trained on int8 features against ones trained on float32 features, on the same judged images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.pages import opening
from contracts.errors import UsageError
from contracts.files import write_text
from contracts.machine import processor
from contracts.rows import LabelArray
from ensemble.fitted import FittedEnsemble
from evaluation.agreement import Agreement, Outputs, agreement
from export.scoring import load_model
from export.timing import as_timed, milliseconds_an_image
from reporting.terminal import console, note
from workflow.ensembling.ensemble import ensemble
from workflow.run.prepared import prepare_data
from workflow.run.state import Run
from workflow.settings.config import RunOptions, resolve_config
from workflow.training.train import train_all

SETS = ("elpv", "gender_B", "covid")
_PRECISIONS = ("fp32", "int8")
_TEST_IMAGES = (
    "Give a data set with a test set, or -o test_share=.2, and runs that have not served another draw."
)


@dataclass(frozen=True)
class Compared:
    """One data set; members and ensemble by AUROC on the judged rows.

    Attributes:
        data_set: name.
        images: judged.
        fp32: name of the row → its AUROC, trained on float32 features.
        int8: likewise, on int8 features.
        change: of the ensemble's AUROC, int8 less float32, with its 95 % interval (DeLong, paired).
        ms: precision → milliseconds per image of the file on one thread, the two files in turns.
        megabytes: precision → size of the file.
    """

    data_set: str
    images: int
    fp32: dict[str, float]
    int8: dict[str, float]
    change: tuple[float, float, float]
    ms: dict[str, float]
    megabytes: dict[str, float]


def bench_precision(options: Sequence[RunOptions], markdown: Path | None) -> dict[str, Any]:
    """Train both ensembles of each data set where they are missing, compare, print, and return all figures.

    Args:
        options: one for each data set; runs lie in ``fp32`` and ``int8`` below its ``runs``.
        markdown: where the page goes, too.

    Raises:
        UsageError: a data set without test images.
    """
    for each in options:
        # Before anything is trained, which takes minutes per data set.
        if not prepare_data(resolve_config(each)).test:
            raise UsageError(f"{each.dataset}: no test images that both judge. {_TEST_IMAGES}")
    compared = [_compared(each) for each in options]
    _print(compared)
    if markdown is not None:
        write_text(markdown, _page(compared, options[0].recipe))
    return {"processor": processor(), "sets": [asdict(each) for each in compared]}


def _compared(options: RunOptions) -> Compared:
    runs, rows = {}, {}
    for precision in _PRECISIONS:
        mine = replace(
            options,
            runs=options.runs / precision,
            overrides=(*options.overrides, f"backbone.precision={precision}"),
        )
        train_all(mine)
        rows[precision] = {row["name"]: float(row["auroc"]) for row in ensemble(mine)["rows"]}
        runs[precision] = Run.open(mine).require_ensemble()
    files = {precision: run.model for precision, run in runs.items()}
    labels, outputs = _judged(runs)
    columns = [column.name for column in runs["fp32"].fitted.columns]
    both = agreement(labels, outputs["fp32"], outputs["int8"], columns)
    return Compared(
        data_set=options.dataset,
        images=len(labels),
        fp32=rows["fp32"],
        int8=rows["int8"],
        change=_change(both),
        ms=milliseconds_an_image({name: as_timed(load_model(path)) for name, path in files.items()}),
        megabytes={name: path.stat().st_size / 1e6 for name, path in files.items()},
    )


def _judged(runs: dict[str, Run]) -> tuple[LabelArray, dict[str, Outputs]]:
    """Labels of the test images, and what each ensemble says of them."""
    tables = {name: run.test for name, run in runs.items()}
    one, other = tables.values()
    if not len(one.labels) or not np.array_equal(one.row_ids, other.row_ids):
        raise UsageError(
            f"{runs['fp32'].folder} and {runs['int8'].folder}: no test images that both judge. {_TEST_IMAGES}"
        )
    return tables["fp32"].labels, {
        name: _outputs(runs[name].fitted, table.scores) for name, table in tables.items()
    }


def _outputs(fitted: FittedEnsemble, scores: Any) -> Outputs:
    return Outputs(fitted.predict(scores), fitted.decide(scores), scores)


def _change(both: Agreement) -> tuple[float, float, float]:
    assert both.auroc_change is not None
    assert both.auroc_change_interval is not None
    return (both.auroc_change, *both.auroc_change_interval)


def _print(compared: Sequence[Compared]) -> None:
    table = Table(title="Trained on int8 features against float32")
    for heading in ("data set", "AUROC", "change, 95 %", "ms per image", "MB"):
        table.add_column(heading, justify="left" if heading == "data set" else "right")
    for each in compared:
        table.add_row(each.data_set, *_cells(each))
    console.print(table)
    note(f"{processor()}; one thread, batches of 16, the two files in turns.")


def _cells(each: Compared) -> list[str]:
    return [
        f"{each.fp32['ensemble']:.4f} → {each.int8['ensemble']:.4f}",
        "{:+.4f} ({:+.4f} to {:+.4f})".format(*each.change),
        f"{each.ms['fp32']:.1f} → {each.ms['int8']:.1f} ({each.ms['fp32'] / each.ms['int8']:.2f} x)",
        f"{each.megabytes['fp32']:.1f} → {each.megabytes['int8']:.1f}",
    ]


def _page(compared: Sequence[Compared], recipe: str) -> str:
    sets = ",".join(each.data_set for each in compared)
    lines = [
        *opening("Backbones in int8 from the start", f"python -m benchmarks precision --sets {sets}"),
        f"Recipe `{recipe}`, seed 0: `train-all` and `ensemble` with `-o backbone.precision=fp32` and "
        "`int8`, judged on the same test images; changes are paired (DeLong).",
        f"Files are timed on one thread of {processor()}, batches of 16, in turns.",
        "",
        "| data set | test images | AUROC, float32 → int8 | change, 95 % | ms per image | MB |",
        "|---|---:|---:|---:|---:|---:|",
        *(f"| {each.data_set} | {each.images} | " + " | ".join(_cells(each)) + " |" for each in compared),
        "",
        "Each member alone, AUROC, float32 → int8:",
        "",
        "| member | " + " | ".join(each.data_set for each in compared) + " |",
        "|---|" + "---:|" * len(compared),
    ]
    names = [name for name in compared[0].fp32 if all(name in each.fp32 for each in compared)]
    lines += [
        f"| {name} | "
        + " | ".join(f"{each.fp32[name]:.4f} → {each.int8[name]:.4f}" for each in compared)
        + " |"
        for name in names
    ]
    return "\n".join(lines) + "\n"
