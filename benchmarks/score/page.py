"""What was measured, as a table, a page and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from reporting.drawing import as_svg, our_style
from reporting.terminal import console

_HEADINGS = ("case", "AUROC", "MB", "images/s", "ratio", "Engine.predict", "of the fp32 peak")
_END_TO_END = ": folder to parquet"


def show(document: dict[str, Any]) -> None:
    """Print the rows."""
    table = Table(title=f"scoring {document['jpegs']}, {document['processes']} processes")
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading == "case" else "right")
    for row in _cells(document):
        table.add_row(*row)
    console.print(table)


def as_markdown(document: dict[str, Any], command: str) -> str:
    """The page; ``command`` is what made it."""
    lines = [f"# Scoring, {document['dataset']}, recipe {document['recipe']}", ""]
    lines += [f"Made by `{command}`.", "", _facts(document), ""]
    lines += ["| " + " | ".join(_HEADINGS) + " |", "|---|" + "---:|" * (len(_HEADINGS) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in _cells(document)]
    return "\n".join([*lines, ""])


def drawn(document: dict[str, Any]) -> str:
    """The picture as SVG text: AUROC over images per second from folder to parquet.

    One point for each file and runtime, so that a point is a choice.
    """
    rows = [row for row in document["rows"] if row["case"].endswith(_END_TO_END) and row["auroc"] is not None]
    with our_style():
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for row in rows:
            name = row["case"].removesuffix(_END_TO_END)
            axes.plot(row["images_per_second"], row["auroc"], marker="o", linestyle="none", label=name)
        axes.margins(0.15, 0.25)
        # Beside the points names of files that are equally good would lie on one another.
        figure.legend(loc="outside lower center")
        axes.set(
            xlabel=f"images per second, folder to parquet, {document['processes']} processes", ylabel="AUROC"
        )
        axes.set_title(f"{document['dataset']}, {document['machine']}", fontsize="small")
        return as_svg(figure)


def _cells(document: dict[str, Any]) -> list[Sequence[str]]:
    """Rows as text, under :data:`_HEADINGS`; the ratio is to the first row."""
    base = document["rows"][0]["images_per_second"]

    def times(ratio: float | None) -> str:
        return "" if ratio is None else f"{ratio:.2f}x"

    return [
        (
            row["case"],
            "" if row["auroc"] is None else f"{row['auroc']:.4f}",
            "" if row["megabytes"] is None else f"{row['megabytes']:.1f}",
            f"{row['images_per_second']:.1f}",
            times(row["images_per_second"] / base),
            times(row["times_engine_predict"]),
            "" if row["share_of_fp32_peak"] is None else f"{100 * row['share_of_fp32_peak']:.0f} %",
        )
        for row in document["rows"]
    ]


def _facts(document: dict[str, Any]) -> str:
    peaks = ", ".join(f"{name} {rate:.0f}" for name, rate in document["gemm_gflops"].items())
    held = document["peak_memory_mb"]
    memory = "" if held is None else f"; most memory of all scoring processes together: {held:.0f} MB"
    return (
        f"{document['backbone']} at {document['image_size']} px, {document['gflop_per_image']:.2f} GFLOP per "
        f"image; "
        f"matrix products on {document['machine']}: {peaks} GFLOP/s. From start to the first row: "
        f"{document['start_seconds']:.1f} s{memory}. Medians of rounds in turn, {document['jpegs']}, "
        f"{document['processes']} processes."
    )
