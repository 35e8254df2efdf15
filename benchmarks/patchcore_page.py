"""The figures of :mod:`benchmarks.patchcore` as a table for people and as a page of the documentation."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.pages import opening

RATIO = 0.1
"""Share of all patches that a bank at anomalib's settings keeps."""

NEIGHBOURS = 9
"""Of the softmax in anomalib's image score."""

SIZE = 224
"""Working size in pixels."""

console = Console(stderr=True)


def print_figures(figures: dict[str, Any]) -> None:
    """A table a data set."""
    table = Table(title=_title(figures))
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for row in _rows(figures):
        table.add_row(*row)
    console.print(table)
    console.print(_same_bank_sentence(figures))


_HEADINGS = ("PatchCore", "image AUROC", "fit, s", "bank", "fit memory, MB", "images/s", "ratio")


def _title(figures: dict[str, Any]) -> str:
    threads = next(iter(figures["arms"].values()))["threads"]
    return (
        f"{figures['dataset']}: {figures['train']} majority images, {figures['test']} held out, {SIZE} px, "
        f"{threads} thread{'s' if threads > 1 else ''}"
    )


def _rows(figures: dict[str, Any]) -> list[list[str]]:
    base = figures["arms"]["anomalib"]["images_per_second"]
    return [
        [
            arm,
            f"{o['auroc']:.4f}",
            f"{o['fit_seconds']:.1f}",
            f"{o['bank'][0]:,} x {o['bank'][1]}",
            f"{o['fit_megabytes']:.0f}",
            f"{o['images_per_second']:.1f}",
            f"{o['images_per_second'] / base:.1f}x",
        ]
        for arm, o in figures["arms"].items()
    ]


def _same_bank_sentence(figures: dict[str, Any]) -> str:
    same = figures["same_bank"]
    return (
        f"Given anomalib's bank, our scores of {same['images']:.0f} test images differ from its own by "
        f"at most {same['exact']:.1e} (scores are about {same['median_score']:.1f}); by "
        f"{same['rounded']:.1e} with features rounded to half precision, as the feature store keeps them."
    )


def as_markdown(all_figures: list[dict[str, Any]], command: str, note: str = "") -> str:
    """The page of the documentation."""
    lines = [
        *opening("PatchCore, ours and anomalib's", command),
        *_METHOD.format(ratio=RATIO, neighbours=NEIGHBOURS).strip().splitlines(),
        *([note] if note else []),
        "",
    ]
    for figures in all_figures:
        lines += [f"## {_title(figures)}", "", "| " + " | ".join(_HEADINGS) + " |"]
        lines += ["|---|" + "---:|" * (len(_HEADINGS) - 1)]
        lines += ["| " + " | ".join(row) + " |" for row in _rows(figures)]
        lines += ["", _same_bank_sentence(figures), ""]
    return "\n".join([*lines, *_DIFFERENCES.strip().splitlines(), ""])


_METHOD = """
The same majority images to learn from, the same test images to score, the same backbone, which is
`tf_efficientnet_lite0` with its packaged ImageNet weights, the same two layers (strides 8 and 16), ratio
{ratio:g}, {neighbours} neighbours. Every way is fitted in a process of its own; *fit memory* is what the fit
adds to that process's peak. For images/s the three are loaded side by side and timed in turn, so that ratios
are to be trusted more than absolute values. anomalib runs as it does in its Engine, in torch; ours as the
graph that we export, in ONNX Runtime, with as many threads. Majority images are few because anomalib's choice
of a bank grows with the square of their number.
"""

_DIFFERENCES = """
## Where the pieces differ

- **Memory.** Ours looks at its training images 64 at a time after the fit, and the distances of 64 images on
  the finer grid to a bank of that size are 0.9 GB by themselves. anomalib takes 1,024 patches at a time.
- **Bank.** Both take k-centre greedy. anomalib runs it on a sparse random projection of the patches, ours on
  the patches themselves, each from a random first patch of its own. So the banks differ, and with them the
  scores; with one bank the scores are equal to rounding.
- **Features.** The same pooling (means of 3 x 3 cells) on the same grid (the finer layer's, the coarser one
  interpolated bilinearly). Ours are rounded to half precision for the feature store, in training and in the
  graph alike.
- **Search.** anomalib takes 1,024 patches at a time in a Python loop, which its exported file fixes at one
  batch size. Ours is one matrix product for any batch.
- **Map.** anomalib upsamples and blurs it as part of every pass, and its figures include that. Ours is the
  grid of distances.
- **Defaults.** Ours are the coarser grid (a quarter of the patches), PCA to 128 dimensions, a bank of 2,000
  patches whatever the number of images, and as the image's score the mean of the three farthest patches.
"""
