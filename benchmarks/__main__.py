"""``python -m benchmarks NAME``: measure the parts on public protocols.

Each command is a few lines here; the work is in the file of the same name. Heavy imports happen inside.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cli
from benchmarks.few_labels.options import Cache, Draws, Make, Members, Page, Sets
from benchmarks.precision.command import precision
from benchmarks.score.command import score
from benchmarks.serve.command import serve
from benchmarks.watch.command import watch
from workflow.commands.options import (
    DEFAULT_RUNS,
    Data,
    Device,
    DeviceName,
    Runs,
    Seed,
    answers,
    works_on_run,
)

if TYPE_CHECKING:
    from workflow.settings.config import RunOptions

app = typer.Typer(
    name="python -m benchmarks",
    help="Measure the parts on public protocols. Prints ratios and medians; nothing passes or fails.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
@answers()
def oneclass(
    dataset: Annotated[str, typer.Option("--set", help="fashion_mnist, mnist or cifar10.")],
    members: Annotated[
        str, typer.Option("--members", help="Member types, as a,b,c.")
    ] = "deep_svdd_pixels,mahalanobis,knn",
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="Normal classes as a,b,c, by name or number (default: all)."),
    ] = None,
    train: Annotated[
        int | None, typer.Option("--train", min=2, help="Most training images per class (default: all).")
    ] = None,
    labelled: Annotated[
        float,
        typer.Option("--labelled", min=0.0, max=0.5, help="Share of labelled minority rows, for deep_sad."),
    ] = 0.0,
    known_classes: Annotated[
        int,
        typer.Option("--known-classes", min=1, max=9, help="Number of classes that these rows come from."),
    ] = 1,
    override: Annotated[
        list[str] | None,
        typer.Option("-o", "--override", help="MEMBER.key=value or backbone.key=value."),
    ] = None,
    data: Data = None,
    runs: Runs = DEFAULT_RUNS,
    seed: Seed = 0,
    device: DeviceName = Device.auto,
) -> Any:
    """Train on one class and tell it from all others, class by class, beside published figures."""
    from benchmarks.oneclass import BenchOptions, bench_oneclass

    options = BenchOptions(
        dataset=dataset,
        members=_names(members),
        classes=_names(classes),
        train=train,
        labelled=labelled,
        known_classes=known_classes,
        overrides=tuple(override or ()),
        data=data,
        runs=runs,
        seed=seed,
        device=device.value,
    )
    return bench_oneclass(options)


@app.command()
@answers()
def coreset(
    points: Annotated[int, typer.Option("--points", min=2, help="Points to choose from.")] = 50_000,
    dim: Annotated[int, typer.Option("--dim", min=1, help="Coordinates of a point.")] = 384,
    centers: Annotated[int, typer.Option("--centers", min=3, help="Points to choose.")] = 5_000,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="A .npy file of points (default: random points)."),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(
            "--iterations",
            min=10,
            help="Extrapolate anomalib's time from this many steps (default: run all, unless too slow).",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs of anomalib's selection.")] = 1,
    seed: Seed = 0,
) -> Any:
    """Time the selection of PatchCore's bank beside anomalib's, on the same points."""
    from benchmarks.coreset import bench_coreset

    return bench_coreset(points, dim, centers, seed, repeats, file, iterations)


@app.command()
@works_on_run(device=True)
def bank(
    options: RunOptions,
    member: Annotated[str, typer.Option("--member", help="A patchcore of the recipe.")] = "patchcore",
    most: Annotated[int, typer.Option("--most", help="Patches of the largest bank.")] = 8000,
) -> Any:
    """Print PatchCore's out-of-fold accuracy against the size and the cost of its bank."""
    from benchmarks.bank import bench_bank

    return bench_bank(options, member, most)


def _names(text: str | None) -> tuple[str, ...]:
    """The parts of ``a,b,c``."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


BENCH_CACHE = DEFAULT_RUNS / "bench"


@app.command()
@answers()
def fusion(
    sets: Sets = None,
    draws: Draws = 2,
    rules: Annotated[
        str | None, typer.Option("--rules", help="Rules of fusion as a,b,c (default: all).")
    ] = None,
    members: Members = None,
    make: Make = True,
    markdown: Page = None,
    data: Data = None,
    cache: Cache = BENCH_CACHE,
) -> Any:
    """Judge every rule of fusion on many small problems with few labels."""
    from benchmarks.fusion.run import MEMBERS, FusionBench, bench_fusion

    bench = FusionBench(
        data, cache, _names(sets), draws, _names(rules), _names(members) or MEMBERS, make, markdown
    )
    return bench_fusion(bench)


@app.command()
@answers()
def views(
    sets: Sets = None,
    draws: Draws = 2,
    labels: Annotated[int, typer.Option("--labels", min=1, help="Labelled images of the minority.")] = 30,
    members: Members = None,
    changes: Annotated[
        str, typer.Option("--changes", help="Of a view: mirror, crop, brightness, encoding, noise, as a,b,c.")
    ] = "noise",
    data: Data = None,
    cache: Cache = BENCH_CACHE,
) -> Any:
    """Compare members without and with views of their training images: ranking, and what moves scores."""
    from benchmarks.views.run import MEMBERS, ViewsBench, bench_views

    return bench_views(
        ViewsBench(data, cache, _names(sets), draws, labels, _names(members) or MEMBERS, _names(changes))
    )


@app.command()
@answers()
def label_curve(
    sets: Sets = None,
    draws: Draws = 5,
    counts: Annotated[
        str | None, typer.Option("--counts", help="Numbers of labels as a,b,c (default: 0 to 50).")
    ] = None,
    members: Members = None,
    make: Make = True,
    markdown: Page = None,
    data: Data = None,
    cache: Cache = BENCH_CACHE,
) -> Any:
    """Draw the curve from no label to fifty, ensemble and members, and check p_normal on the way."""
    from benchmarks.label_curve.run import COUNTS, SETS, LabelCurveBench, bench_label_curve

    numbers = tuple(int(count) for count in _names(counts)) or COUNTS
    bench = LabelCurveBench(
        data, cache, _names(sets) or SETS, numbers, draws, _names(members), make, markdown
    )
    return bench_label_curve(bench)


@app.command()
@answers()
def first_day(
    into: Annotated[Path, typer.Option("--into", help="Directory of the folders.")] = Path(),
    runs: Runs = DEFAULT_RUNS,
) -> Any:
    """Make the folders of solar cells that README begins with: cells, line and later."""
    from benchmarks.first_day import first_day as make_folders

    return make_folders(into, runs)


@app.command()
@answers()
def kinds(
    sets: Sets = None,
    draws: Draws = 1,
    counts: Annotated[
        str | None, typer.Option("--counts", help="Numbers of labels over all kinds as a,b,c (default: 30).")
    ] = None,
    members: Members = None,
    markdown: Page = None,
    data: Data = None,
    cache: Cache = BENCH_CACHE,
) -> Any:
    """Leave out one kind of the minority at a time: what one-class members cost and gain."""
    from benchmarks.kinds.run import COUNTS, KindsBench, bench_kinds

    numbers = tuple(int(count) for count in _names(counts)) or COUNTS
    return bench_kinds(KindsBench(data, cache, _names(sets), draws, numbers, _names(members), markdown))


@app.command()
@answers()
def triage(
    sets: Sets = None,
    draws: Draws = 20,
    members: Members = None,
    markdown: Page = None,
    data: Data = None,
    cache: Cache = BENCH_CACHE,
) -> Any:
    """Check the error rates of PASS and FAIL on draws of three sets, and what NOVEL catches."""
    from benchmarks.triage.run import TriageBench, bench_triage

    return bench_triage(TriageBench(data, cache, _names(sets), draws, _names(members), markdown))


@app.command()
@answers()
def localisation(
    sets: Annotated[
        str | None, typer.Option("--sets", help="Sets of pictures as a,b,c (default: all).")
    ] = None,
    draws: Draws = 3,
    members: Members = None,
    markdown: Page = None,
    data: Data = None,
    cache: Cache = BENCH_CACHE,
) -> Any:
    """Draw damage into real pictures and measure which map of an exported file finds it."""
    from benchmarks.localisation.run import MEMBERS, LocalisationBench, bench_localisation

    return bench_localisation(
        LocalisationBench(data, cache, _names(sets), draws, _names(members) or MEMBERS, markdown)
    )


@app.command()
@answers()
def patchcore_forms(
    sets: Sets = None,
    draws: Draws = 2,
    forms: Annotated[
        str | None, typer.Option("--forms", help="Forms of PatchCore as a/b/c (default: all).")
    ] = None,
    markdown: Page = None,
    data: Data = None,
    cache: Cache = BENCH_CACHE,
) -> Any:
    """Compare forms of PatchCore on normal images alone: whitening, image scores, sizes of the bank."""
    from benchmarks.few_labels.patchcore_forms import FormsBench, bench_forms

    chosen = [name.strip() for name in (forms or "").split("/") if name.strip()]
    return bench_forms(FormsBench(data, cache, _names(sets), draws, chosen, markdown))


@app.command()
@answers()
def protocols(
    tree: Annotated[
        Path | None,
        typer.Option("--tree", help="Directory like MVTec AD's: CATEGORY/train/good, CATEGORY/test/KIND."),
    ] = None,
    draws: Draws = 3,
    members: Members = None,
    markdown: Page = None,
    cache: Cache = BENCH_CACHE,
) -> Any:
    """Follow published protocols: ELPV with ten labelled anomalies, and trees as MVTec AD's."""
    from benchmarks.few_labels.protocols import ProtocolsBench, bench_protocols

    return bench_protocols(ProtocolsBench(tree, cache, draws, _names(members), markdown))


@app.command()
@answers()
def label_audit(
    sets: Sets = None,
    draws: Draws = 1,
    members: Members = None,
    markdown: Page = None,
    data: Data = None,
    cache: Cache = BENCH_CACHE,
) -> Any:
    """Flip labels of real data sets and count how many the label audit lists first."""
    from benchmarks.audit.run import MEMBERS, SETS, AuditBench, bench_audit

    return bench_audit(
        AuditBench(data, cache, _names(sets) or SETS, draws, _names(members) or MEMBERS, markdown)
    )


for beside_its_work in (watch, precision, serve):
    app.command()(answers()(beside_its_work))
app.command()(works_on_run()(score))


@app.command("all")
def run_all(
    dataset: Annotated[
        str, typer.Option("--dataset", help="Data set whose run of recipe quick is exported.")
    ] = "elpv",
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """Time bank selection and what earlier commands left: an exported run, score tables (make bench)."""
    from benchmarks.coreset import bench_coreset
    from benchmarks.fusion.run import FusionBench, bench_fusion, has_tables
    from benchmarks.score.run import ScoreBench, bench_score
    from reporting.terminal import note
    from workflow.settings.config import RunOptions

    bench_coreset(points=50_000, dim=128, centers=2_000, repeats=2)
    if (runs / dataset / "quick" / "model.onnx").exists():
        bench_score(RunOptions(dataset, runs=runs), ScoreBench(anomalib=True))
    else:
        note(f"{dataset} has no exported run in {runs}, so scoring is not timed. Run: make demo")
    cache = runs / BENCH_CACHE.name
    if has_tables(cache):
        bench_fusion(FusionBench(None, cache, make=False))
    else:
        note(f"{cache} has no score tables, so no fusion is judged. Run: python -m benchmarks fusion")


def main(arguments: list[str] | None = None) -> int:
    """Run a benchmark; a user's mistake becomes one sentence and an exit code, as in :func:`cli.main`."""
    return cli.main(arguments, app)


if __name__ == "__main__":
    sys.exit(main())
