"""``outnumbered versus OLD NEW``: two files on the same images, to know what putting one in use changes.

Each file scores by the ordinary scorer, at its own prior, threshold and error rates of triage: what is
compared is what would be decided. Nothing of it needs torch.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from contracts.errors import UsageError
from contracts.files import atomic_writer, write_text
from export.scoring.csv_files import no_formula
from workflow.versus.changes import Pair, changed_rows, changes_of
from workflow.versus.figures import figures_of
from workflow.versus.images import KnownImage, images_of
from workflow.versus.printing import print_comparison
from workflow.versus.scoring import open_both, score_for

CHANGED_SUFFIXES = (".csv", ".parquet")


def versus(
    old: Path,
    new: Path,
    place: Path,
    *,
    golden: Path | None = None,
    changed: Path | None = None,
    output: Path | None = None,
    processes: int | None = None,
) -> dict[str, Any]:
    """Compare two files on the images of a folder or list, and on a golden set.

    Args:
        old: the file in use.
        new: the file that may take its place.
        place: folder or list of images, see :func:`workflow.versus.images.images_of`.
        golden: another one, of images that no training ever sees; its figures are shown by themselves.
        changed: file for the images whose decision or triage changed, ending in .csv or .parquet.
        output: folder that keeps the rows of both files, so that the same command goes on after it was
            stopped; None keeps none.
        processes: worker processes; None for one per usable processor.

    Returns:
        The document of ``--json``: that of :func:`compared` with ``classes``, ``golden`` (the same for the
        golden set, or None) and ``changed`` (the file, or None).

    Raises:
        UsageError: a file or folder is missing, or the two files are of different classes.
        DataError: no images, or rows that cannot be taken.
        ModelError: one is no model of ours.
    """
    check_place_of_changes(changed)
    models = open_both(old, new)
    classes = models[0].classes
    images = images_of(place, classes)
    golden_images = None if golden is None else images_of(golden, classes, "--golden")
    with ExitStack() as stack:
        folder = output or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="versus-")))
        pair, document = compared(old, new, images, folder / "images", processes)
        of_golden = None
        if golden_images is not None:
            of_golden = compared(old, new, golden_images, folder / "golden", processes)[1]
    if changed is not None:
        write_changes(pair, changed)
    whole = {
        **document,
        "classes": list(classes),
        "golden": of_golden,
        "changed": None if changed is None else str(changed),
    }
    print_comparison(whole)
    return whole


def compared(
    old: Path, new: Path, images: Sequence[KnownImage], folder: Path, processes: int | None = None
) -> tuple[Pair, dict[str, Any]]:
    """Score the images with both files and compare.

    Args:
        old: the file in use.
        new: the other one.
        images: to be scored.
        folder: for the rows of both; those that lie there already are not computed again.
        processes: worker processes; None for one per usable processor.

    Returns:
        The pair of rows, and ``{old, new, images, compared, failed, quantity, decision, triage, by_kind,
        by_group, largest, figures, sentences}``.
    """
    first, second = open_both(old, new)
    pair = Pair.of(
        images,
        score_for(first, images, folder / "old", "old", processes),
        score_for(second, images, folder / "new", "new", processes),
    )
    failed = [
        {"path": image.path, "reason": pair.old.error[i] or pair.new.error[i]}
        for i, image in enumerate(images)
        if pair.old.error[i] is not None or pair.new.error[i] is not None
    ]
    document = {
        "old": pair.old.facts(),
        "new": pair.new.facts(),
        "images": len(images),
        "compared": len(pair.images),
        "failed": failed,
        **changes_of(pair),
        "figures": figures_of(pair),
    }
    return pair, {**document, "sentences": _sentences(pair, document)}


def _sentences(pair: Pair, document: dict[str, Any]) -> list[str]:
    """What a reader must know to read the tables right."""
    sentences = []
    if pair.old.sha256 == pair.new.sha256:
        sentences.append("Both names lead to the same file, so nothing can differ.")
    for said, when in ((pair.old, "old"), (pair.new, "new")):
        if said.known:
            sentences.append(
                f"The {when} file was trained on {said.known:,} of these {document['images']:,} images: its "
                "figures on them are optimistic, and say nothing about images that it has not seen."
            )
    if pair.quantity == "p_normal":
        sentences.append(
            "One of the files gives no probability, so p_normal is compared: how often a normal image looks "
            "at least as unusual."
        )
    if not pair.has_triage:
        sentences.append("Triage is not compared: one of the files has none.")
    figures = document["figures"]
    if figures is None:
        sentences.append(
            "No label is known, so which file is right cannot be said. Give one folder per class, or a list "
            "with a column 'label'."
        )
    else:
        sentences += [figures["missing"]] if figures["missing"] else figures["sentences"]
    return sentences


def check_place_of_changes(target: Path | None) -> None:
    """Refuse a file of changed rows that cannot be, before minutes of scoring.

    Raises:
        UsageError: it is a folder, or its ending says neither CSV nor parquet.
    """
    if target is None:
        return
    if target.is_dir() or target.suffix.lower() not in CHANGED_SUFFIXES:
        raise UsageError(f"--changed {target}: name a file that ends in {' or '.join(CHANGED_SUFFIXES)}.")


def write_changes(pair: Pair, target: Path) -> None:
    """Write the changed images as CSV or parquet, by the ending, whole or not at all."""
    rows = changed_rows(pair)
    columns = [
        *("path", "label", "kind", "group"),
        *(f"{name}_{when}" for name in ("decision", "triage") for when in ("old", "new")),
        *(f"{name}_{when}" for name in ("probability", "p_normal") for when in ("old", "new")),
    ]
    if target.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        numbers = {name for name in columns if name.startswith("p") and name != "path"}
        schema = pa.schema([(name, pa.float64() if name in numbers else pa.string()) for name in columns])
        with atomic_writer(target) as handle:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), handle, compression="zstd")
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "path": no_formula(str(row["path"]))} for row in rows)
    write_text(target, text.getvalue())
