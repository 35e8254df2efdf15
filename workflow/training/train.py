"""``train-all`` and ``train``: fit members on every fold and on all rows, and keep their scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rich.table import Table

from contracts.errors import MemberCollapsedError
from contracts.files import atomic_writer
from contracts.machine import usable_cpus
from contracts.member import FitContext, Member
from contracts.rows import FloatArray, ImageRows, MaskArray, real_positions
from features.devices import limit_threads, pick_device
from imagedata.views import ViewsAtScoring
from reporting.terminal import console, note, progress_bar
from workflow.run.clusters import read_clusters, write_clusters
from workflow.run.copies.views import views_of_run
from workflow.run.feedback import FeedbackImages
from workflow.run.fits import (
    FINAL,
    Curves,
    Fit,
    FitResult,
    contamination_of,
    fits_of,
    map_quantiles,
    read_result,
)
from workflow.run.kinds import kind_fits_of, kinds_of_run, wants_clusters, without_its_kind
from workflow.run.prepared import PreparedData, prepare_data, prepare_to_train, save_prepared
from workflow.run.reading import print_reading, reading_of
from workflow.run.summary import print_data_facts
from workflow.settings.config import RunConfig, RunOptions, resolve_config
from workflow.settings.options_file import write_options
from workflow.settings.registry import build_member
from workflow.tracking.tracker import track_training
from workflow.training.contamination import typical_positions
from workflow.training.estimates import processes_for
from workflow.training.in_processes import work_in_processes
from workflow.training.quantising import quantise_where_asked

if TYPE_CHECKING:
    from features.cache import FeatureStore
    from features.settings import BackboneSettings


_TIMED_ROWS = 16


@dataclass(frozen=True)
class TrainSummary:
    """What a training command did.

    Attributes:
        dataset: name.
        recipe: name.
        folder: the run folder.
        fits_done: finished before and now.
        fits_run: finished now.
        seconds: wall time of this call.
        left_out: member → why it is left out of the ensemble.
        images_of_other_endings: ending → images of the data set that are used for nothing.
        corrected: training and test images whose label a person corrected; empty where there are none.
        reading: sentences about how the data set was read.
        unused_images: folder → number of images in the data set that no class or split takes.
    """

    dataset: str
    recipe: str
    folder: str
    fits_done: int
    fits_run: int
    seconds: float
    left_out: dict[str, str]
    images_of_other_endings: dict[str, int]
    corrected: dict[str, int]
    reading: list[str]
    unused_images: dict[str, int]


def train_all(options: RunOptions, only: Sequence[str] = ()) -> TrainSummary:
    """Train the recipe's members, or some of them; continues where an earlier call stopped.

    Args:
        options: data set, recipe and the rest of the command line.
        only: names of the members to train; all when empty.

    Raises:
        UsageError, DataError, ModelError: with one sentence each.
    """
    started = time.monotonic()
    # Refused before any image is looked at, which may take minutes.
    _ = [resolve_config(options).member(name) for name in only]
    config, data = prepared_to_train(options)
    members = tuple(config.member(name) for name in only) or config.members
    save_prepared(config, data)
    write_options(config.folder, options)
    facts, reading = print_data_facts(config, data), reading_of(config)
    print_reading(reading)
    if data.joined:
        note(
            f"{len(data.joined)} of the training images were added by update. To do without them, delete "
            "added.json in the run folder."
        )
    elif added := FeedbackImages.read(config.folder).rows:
        note(
            f"{len(added)} feedback images are kept: no member is trained on them, and ensemble uses them "
            "again. To do without them, delete added.json in the run folder."
        )
    fits = fits_of(config, data, members)
    pending = [fit for fit in fits if read_result(fit) is None]
    if pending:
        run_fits(config, data, pending)
    else:
        note(f"Nothing to do: all {len(fits)} fits of {config.folder} are trained.")
    if wants_clusters(config, data) and not read_clusters(config, data):
        _cluster(config, data)
    kind_fits = kind_fits_of(config, data, members)
    pending_kinds = [fit for fit in kind_fits if read_result(fit) is None]
    if sentence := kinds_of_run(config, data).sentence:
        note(sentence)
    if pending_kinds:
        run_fits(config, data, pending_kinds)
    left_out = print_members(data, fits)
    track_training(config, data, fits)
    return TrainSummary(
        dataset=config.spec.name,
        recipe=config.recipe.name,
        folder=str(config.folder),
        fits_done=len(fits) + len(kind_fits),
        fits_run=len(pending) + len(pending_kinds),
        seconds=round(time.monotonic() - started, 3),
        left_out=left_out,
        images_of_other_endings=facts["images_of_other_endings"],
        corrected=facts.get("corrected", {}),
        **reading,
    )


def prepared_to_train(options: RunOptions) -> tuple[RunConfig, PreparedData]:
    """The configuration, with all that the recipe leaves open chosen now, and the rows."""
    config = resolve_config(options)
    data = prepare_to_train(config)
    if config.left_to_choose:
        from workflow.training.choosing import settle

        config = settle(config, data, lambda *given: FitWork(*given).result)
        # Augmented copies are made at the working size.
        data = prepare_data(config) if data.augmented else data
    return quantise_where_asked(config, data), data


def _cluster(config: RunConfig, data: PreparedData) -> None:
    """Cluster the minority's training rows; the features are there, or are computed now."""
    from workflow.run.features import load_backbones

    [loaded] = load_backbones(config, {config.recipe.backbone}).values()
    rows = [row for row in data.train if row.label == data.manifest.class_names[-1]]
    loaded.fill(data, rows, config.decode, pick_device(config.options.device))
    write_clusters(config, data, loaded.rows(data, rows, config.decode).pooled())


def run_fits(config: RunConfig, data: PreparedData, pending: list[Fit]) -> None:
    """Compute missing features, then every pending fit."""
    # torch is imported from here on, and only when there is work.
    from workflow.run.features import backbones_read_by, load_backbones

    device = pick_device(config.options.device)
    backbones = load_backbones(config, {fit.member.backbone for fit in pending})
    for settings in backbones_read_by(fit.member for fit in pending):
        loaded = backbones[settings]
        started = time.monotonic()
        rows = [*data.train, *data.test, *data.augmented]
        mine = {fit.member.name: fit.member for fit in pending if fit.member.backbone == settings}
        computed = loaded.fill(data, rows, config.decode, device, views_of_run(config, data, mine.values()))
        if computed:
            seconds = time.monotonic() - started
            rate = computed / seconds
            note(f"Features of {computed} images computed in {seconds:.0f} s ({rate:.0f} images/s).")
    stores = {settings: loaded.store for settings, loaded in backbones.items()}
    work = FitWork(config, data, stores, device)
    cluster = config.options.ray
    with progress_bar("training", len(pending)) as bar:
        if cluster is not None:
            from workflow.training.on_ray import work_on_ray

            # Ray gives every task one processor.
            work = replace(work, threads=1)
            for fit in work_on_ray(work, pending, cluster, config.options.jobs, lambda fit: fit.label):
                bar.describe(f"{fit.label} done, on the cluster")
                bar.advance()
            return
        jobs = min(config.options.jobs or processes_for(pending, data, device), len(pending))
        if jobs == 1:
            for fit in pending:
                bar.describe(fit.label)
                work(fit)
                bar.advance()
            return
        # Each process gets its share of the processors.
        work = replace(work, threads=max(1, usable_cpus() // jobs))
        for fit in work_in_processes(work, pending, jobs, lambda fit: fit.label):
            bar.describe(f"{fit.label} done, {jobs} at a time")
            bar.advance()


@dataclass(frozen=True)
class FitWork:
    """Runs one fit and stores its result, in whatever process it is called.

    Attributes:
        config: the run.
        data: its rows.
        stores: backbone → its features, all of them computed where a member reads them.
        device: ``cpu`` or ``cuda``.
        threads: of this process's arithmetic from now on; None leaves it as it is.
    """

    config: RunConfig
    data: PreparedData
    stores: dict[BackboneSettings, FeatureStore]
    device: str
    threads: int | None = None

    def __call__(self, fit: Fit) -> None:
        """Fit, score, and write the cached result; does nothing if the fit is finished.

        It was not when this command began, but another command on the same run may have finished it.
        """
        if read_result(fit) is None:
            self.result(fit).write(fit)

    def result(self, fit: Fit) -> FitResult:
        """Fit and score, whatever is cached; writes nothing but what the member keeps beside its result."""
        from workflow.run.features import rows_of, rows_to_learn_from

        if self.threads is not None:
            limit_threads(self.threads)
        store = self.stores[fit.member.backbone]
        train, sources = rows_to_learn_from(store, self.data, fit.member, self.config.decode)
        test = rows_of(store, self.data, self.data.test, self.config.decode)
        fold_of_row = self.data.of_repeat(fit.repeat).fold_of_row
        share = contamination_of(self.config)
        if fit.without:
            fit, fold_of_row = without_its_kind(self.config, self.data, fit)
        decode = self.config.decode
        return run_fit(
            fit,
            train,
            test,
            fold_of_row,
            self.device,
            sources,
            self.data.targets,
            contamination=share,
            seen=lambda cells: None if decode.region is None else decode.region.seen(cells, decode.fit),
            views=self.config.recipe.views_at_scoring,
        )


def positions_to_fit(
    fold_of_row: npt.NDArray[np.int64], source_of_copy: npt.NDArray[np.int64], fold: int
) -> npt.NDArray[np.int64]:
    """Positions that a fit learns from: rows outside the fold, followed by the copies of these.

    Args:
        fold_of_row: ``[N]`` fold of each training row.
        source_of_copy: ``[M]`` position of the row that each augmented copy, N and following, was made of.
        fold: the fold held out; :data:`FINAL` holds nothing out.
    """
    is_left = fold_of_row != fold
    return np.flatnonzero(np.concatenate([is_left, is_left[source_of_copy]])).astype(np.int64)


def run_fit(
    fit: Fit,
    train: ImageRows,
    test: ImageRows,
    fold_of_row: npt.NDArray[np.int64],
    device: str,
    source_of_copy: npt.NDArray[np.int64] | None = None,
    targets: FloatArray | None = None,
    contamination: float = 0.0,
    seen: Callable[[int], MaskArray | None] = lambda _: None,
    views: ViewsAtScoring = "none",
) -> FitResult:
    """Fit on the rows outside the fold, score the rows in it; the final fit scores the test set.

    Args:
        fit: which member, which fold.
        train: all N training rows, and behind them the M augmented copies and views to learn from.
        test: the test set.
        fold_of_row: ``[N]`` fold of each training row.
        device: ``cpu`` or ``cuda``.
        source_of_copy: ``[M]`` position of each copy's source; None where there are no copies.
        targets: ``[N, K]`` class shares to learn in place of the labels; a copy has those of its source.
        contamination: share of the majority's rows that members of it leave out as the most anomalous ones,
            because nobody has labelled them; see :mod:`workflow.training.contamination`.
        seen: which cells of a map count as normal patches; see :func:`workflow.run.fits.map_quantiles`.
        views: how each scored image is seen.
    """
    from features.apply import scores_as_seen

    started = time.monotonic()
    sentences: list[str] = []
    curves: Curves = {}

    def record(metric: str, value: float, step: int) -> None:
        curves.setdefault(metric, []).append((step, value))

    def build() -> Member:
        return build_member(fit.member.type, fit.member.settings, fit.member.backbone)

    member = build()

    def keep(name: str, content: bytes) -> None:
        with atomic_writer(fit.path.with_name(f"{fit.path.stem}-{name}")) as handle:
            handle.write(content)

    sources = np.empty(0, dtype=np.int64) if source_of_copy is None else source_of_copy
    positions = positions_to_fit(fold_of_row, sources, fit.fold)
    if targets is not None:
        targets = targets[np.concatenate([np.arange(len(fold_of_row)), sources])[positions]]
    context = FitContext(fit.seed, device, sentences.append, record, keep, targets)
    fit_rows = train.subset(positions)
    # A copy has no fold, so none is ever among the rows that a fold holds out.
    score_rows = test if fit.fold == FINAL else train.subset(np.flatnonzero(fold_of_row == fit.fold))
    try:
        if contamination and member.kind != "supervised":
            # Suspects are found among the images themselves; a view goes where its image goes.
            images = fit_rows.subset(real_positions(fit_rows))
            typical = positions[typical_positions(build, images, contamination, context)]
            of_typical = np.isin(np.concatenate([np.arange(len(fold_of_row)), sources])[positions], typical)
            fit_rows = fit_rows.subset(np.flatnonzero(of_typical))
        member.fit(fit_rows, context)
    except MemberCollapsedError as collapse:
        # A collapsed member is a result as well: it is kept, so that it is not trained again at every call.
        nothing = np.full((len(score_rows), 1), np.nan, dtype=np.float32)
        seconds = time.monotonic() - started
        return FitResult(nothing, {}, {}, seconds, 0.0, sentences, str(collapse), curves)
    fitted = time.monotonic()
    # Without a test set the final fit has no row to judge; a few of its own say how long scoring takes.
    timed = score_rows if len(score_rows) else fit_rows.subset(real_positions(fit_rows)[:_TIMED_ROWS])
    scores = scores_as_seen(member, timed, views)
    now = time.monotonic()
    # Only the final fit is ever used on new images; the folds' fits serve their scores alone.
    state, meta = member.state() if fit.fold == FINAL else ({}, {})
    # Backbone features are cached, so this is the cost that the member adds to them.
    milliseconds = 1000 * (now - fitted) / len(timed)
    scores = scores[: len(score_rows)]
    # A fit without a kind serves its scores alone.
    is_fold = fit.fold != FINAL and not fit.without
    normal_map = map_quantiles(member, score_rows, seen, views) if is_fold else None
    return FitResult(scores, state, meta, now - started, milliseconds, sentences, "", curves, normal_map)


def print_members(data: PreparedData, fits: list[Fit]) -> dict[str, str]:
    """Print one line per member; returns why members are left out."""
    from evaluation.table_metrics import out_of_fold_figure

    labels, n_classes = data.labels(data.train), len(data.manifest.class_names)
    auroc = "out-of-fold AUROC" if n_classes == 2 else "out-of-fold macro AUROC"
    table = Table(title="Members, scored on training rows that each fold held out")
    has_minority = data.regime == "labelled"
    # Without a labelled minority image there is nothing to rank.
    headings = ("member", "kind", *([auroc] if has_minority else []), "seconds", "notes")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in {auroc, "seconds"} else "left")
    left_out: dict[str, str] = {}
    for name in dict.fromkeys(fit.member.name for fit in fits):
        mine = [fit for fit in fits if fit.member.name == name]
        results = [(fit, result) for fit in mine if (result := read_result(fit)) is not None]
        collapsed = next((result.collapsed for _, result in results if result.collapsed), "")
        seconds = sum(result.seconds for _, result in results)
        if collapsed:
            left_out[name] = collapsed
            figure = "left out"
        else:
            n_columns = results[0][1].scores.shape[1]
            scores = np.full((data.n_repeats, len(data.train), n_columns), np.nan)
            for fit, result in results:
                if fit.fold != FINAL:
                    held_out = data.of_repeat(fit.repeat).fold_of_row == fit.fold
                    scores[fit.repeat, held_out] = result.scores
            # A supervised member cannot score the only minority image out of fold.
            is_judged = has_minority and not np.isnan(scores).any()
            figure = out_of_fold_figure(labels, scores, n_classes) if is_judged else "not measurable"
        sentences = [sentence for _, result in results for sentence in result.sentences]
        more = f" (+{len(sentences) - 1})" if len(sentences) > 1 else ""
        remark = collapsed or "".join(sentences[:1]) + more
        figures = [figure] if has_minority else []
        table.add_row(name, mine[0].member.type, *figures, f"{seconds:.1f}", remark)
    console.print(table)
    return left_out
