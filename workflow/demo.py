"""``demo``: the main job on images that a pip package carries, from folders to scored rows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from contracts.errors import NotExportableError
from contracts.files import write_text
from reporting.terminal import note
from workflow.ensembling.ensemble import ensemble
from workflow.run.prepared import load_prepared
from workflow.score import score
from workflow.settings.config import RunOptions, resolve_config
from workflow.training.train import train_all


def demo(runs: Path, recipe: str, tracking: bool = True) -> dict[str, Any]:
    """Train, fuse, export and score on the ELPV solar cells.

    Args:
        runs: where runs and features go.
        recipe: which recipe.
        tracking: copy what was measured to MLflow, where it is installed.

    Returns:
        ``{ensemble, score, seconds}``: the documents of both commands, and the wall time.
    """
    started = time.monotonic()
    options = RunOptions(dataset="elpv", recipe=recipe, runs=runs, tracking=tracking)
    train_all(options)
    document = ensemble(options)
    if document["model"] is None:
        raise NotExportableError(document["not_exported"])
    config = resolve_config(options)
    data = load_prepared(config)
    # A list instead of the folder: the data set's folder holds the training images as well.
    held_out = config.folder / "test.txt"
    write_text(held_out, "".join(f"{data.file_of(row)}\n" for row in data.test))
    output = config.folder / "scores"
    summary = score(Path(document["model"]), [], list_file=held_out, output=output, overwrite=True)
    seconds = time.monotonic() - started
    note(f"\nThe whole job took {seconds:.0f} s. What there is now:")
    note(
        f"  {document['model']}: one file; score images with: python cli.py score {document['model']} FOLDER"
    )
    note(f"  {output}: {summary.scored} rows of scores; the surest defects:")
    table = pq.read_table(output, columns=["path", "probability"]).sort_by([("probability", "descending")])
    for row in table.slice(0, 3).to_pylist():
        note(f"    {row['probability']:.3f}  {Path(row['path']).name}")
    return {
        "ensemble": document,
        "score": {
            "images": summary.images,
            "scored": summary.scored,
            "failed": summary.failed,
            "output": str(output),
        },
        "seconds": round(seconds, 1),
    }
