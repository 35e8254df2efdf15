"""Score images into a folder of part files: plan, skip what is finished, score the rest.

The folder holds ``part-<shard id>.parquet`` files, which read as one data set, and ``_plan.json``,
which says what they belong to. Every file appears whole by a rename, so the same command goes on after
``kill -9`` at any moment, and a finished run does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from contracts.errors import UsageError
from contracts.machine import usable_cpus
from export.scoring.inputs.listing import FoundImages, find_images
from export.scoring.model import RUNTIMES, ScoringModel, load_model
from export.scoring.output import OutputFolder, chosen_before
from export.scoring.plan import DEFAULT_SHARD_SIZE, Levels, Override, ScoreSettings, Shard, make_shards
from export.scoring.pools.processes import score_in_processes
from export.scoring.probe import check_probe
from export.scoring.seal import check_seal
from export.scoring.shard import DEFAULT_BATCH_SIZE, ShardJob, ShardResult, columns_of, score_shard
from imagedata.containers.reader import ContainerReader

FEW_IMAGES = 64
"""Up to this many images are scored in this process; starting another takes longer than they do."""

AUTO = "auto"
"""In place of a runtime's name."""

OnProgress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class FinishedRun:
    """A folder in which every shard is finished, while it is still held against other runs.

    Attributes:
        model: loaded.
        job: output folder, batch size and overrides.
        shards: all of them, in the order of the plan.
    """

    model: ScoringModel
    job: ShardJob
    shards: Sequence[Shard]


OnFinished = Callable[[FinishedRun], None]


@dataclass(frozen=True)
class ScoreSummary:
    """What a run of the scorer did.

    Attributes:
        images: images of the plan, one row each.
        scored: rows with scores, from this run and earlier ones.
        failed: rows without, from this run and earlier ones.
        seconds: wall-clock time of this run, loading the model included.
        images_per_second: images of this run (failed ones included) a second; 0 when none was left.
        output: the folder that holds the rows.
        already_done: images that earlier runs had finished.
        runtime: what computed the graph.
        known: scored images that the model was trained on, as far as the file names them.
        left_out: ending → files that hold images and were not scored, as their names do not end like images'.
    """

    images: int
    scored: int
    failed: int
    seconds: float
    images_per_second: float
    output: Path
    already_done: int
    runtime: str
    left_out: dict[str, int] = field(default_factory=dict)
    known: int = 0


def score_images(
    model_path: Path,
    paths: Sequence[Path],
    output_dir: Path,
    *,
    list_file: Path | None = None,
    path_column: str | None = None,
    processes: int | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    shard_size: int = DEFAULT_SHARD_SIZE,
    prior: Override | Literal["estimated"] = None,
    threshold: Override = None,
    levels: Levels = None,
    runtime: str = "onnxruntime",
    ray: str | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
    on_finished: OnFinished | None = None,
) -> ScoreSummary:
    """Score every image named by ``paths`` and ``list_file``; one row each, whatever happens to it.

    Finished shards are recognised by model, settings and file names, not by the images' content: after
    replacing images under the same names, score them again with ``overwrite``.

    Worker processes import the calling script again, so call this below ``if __name__ == "__main__":``.

    Args:
        model_path: an exported file.
        paths: image files, folders, patterns, tar and zip archives, and parquet files; see
            :func:`export.scoring.inputs.listing.find_images`.
        output_dir: folder for the part files; made when missing.
        list_file: text file of more paths, one per line, relative to its own folder.
        path_column: column of parquet files that is read; None for ``path``, or else ``image``.
        processes: worker processes (default: one per usable processor).
        batch_size: images per call of the graph; does not change which shards are finished.
        shard_size: most images per part file; the last ones are smaller.
        prior: share of the minority where the images come from (of each class for K > 2); None for the
            file's own; ``estimated`` scores at the file's own, and ``on_finished`` applies the estimate.
        threshold: probability from which on the minority is decided (one per class for K > 2); None for the
            file's own.
        levels: error rates of triage; None for the file's own.
        runtime: one of :data:`export.scoring.model.RUNTIMES`, or ``auto`` for the fastest installed that
            agrees with the first on these images; an earlier run's choice is kept when its results are.
        ray: score on a Ray cluster: ``local``, ``auto`` or the address of its head; paths must then be the
            same on every node. None for processes of this machine.
        overwrite: delete an earlier run's results first instead of going on from them.
        on_progress: receives (images done, of these failed, images in all) at the start and after each
            shard.
        on_finished: called once all part files are in place, also where earlier runs wrote them all; what it
            takes is no part of the speed.

    Returns:
        Counts over all rows, and the speed of this run.

    Raises:
        UsageError: a path or value that cannot be, or a folder with results of something else.
        DataError: no images, an unreadable folder, a full disk.
        ModelError: the file is not a usable model.
        KeyboardInterrupt: passed on after the workers have ended; finished shards are kept.
    """
    _check_counts({"processes": processes, "batch size": batch_size, "shard size": shard_size})
    started = time.perf_counter()
    # The driver of worker processes never runs the graph, so the session opens only if this process scores.
    model = load_model(model_path, at_first_run=True)
    check_seal(model.path)
    at_first = None if isinstance(prior, str) else prior
    model.check_overrides(at_first, threshold, levels)
    found = find_images(paths, list_file, path_column)
    settings = ScoreSettings(model.sha256, model.decode.to_json(), prior, threshold, levels=levels)
    if runtime == AUTO:
        # The same runtime as before, or finished shards would not be recognised.
        earlier_choice = None if overwrite else chosen_before(Path(output_dir), settings)
        trial = make_shards(found.paths, settings, shard_size, found.packed)
        runtime = earlier_choice or _fastest(model, trial)
    settings = replace(settings, runtime=runtime)
    model = model if runtime == RUNTIMES[0] else load_model(model_path, runtime=runtime, at_first_run=True)
    shards = make_shards(found.paths, settings, shard_size, found.packed)
    job = ShardJob(model.path, Path(output_dir), batch_size, at_first, threshold, runtime, levels)
    planned = _Planned(model, job, shards, settings, found)
    return _scored(planned, processes, ray, overwrite, on_progress, on_finished, started)


def _check_counts(counts: Mapping[str, int | None]) -> None:
    """Refuse numbers below 1; None stands for a default."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; it must be at least 1.")


@dataclass(frozen=True)
class _Planned:
    """What is to be scored, by what and how."""

    model: ScoringModel
    job: ShardJob
    shards: list[Shard]
    settings: ScoreSettings
    found: FoundImages


def _scored(
    planned: _Planned,
    processes: int | None,
    ray: str | None,
    overwrite: bool,
    on_progress: OnProgress | None,
    on_finished: OnFinished | None,
    started: float,
) -> ScoreSummary:
    """Score what earlier runs have left, and count; see :func:`score_images`."""
    model, job, shards, found = planned.model, planned.job, planned.shards, planned.found

    with OutputFolder.claimed(job.output) as folder:
        if overwrite:
            folder.clear()
        earlier = folder.take_up(planned.settings, shards, columns_of(model))
        tally = _Tally(len(found.paths), on_progress)
        tally.add(*earlier.values())
        already_done = tally.done
        missing = [shard for shard in shards if shard.id not in earlier]
        with closing(_score(model, job, missing, processes, ray)) as results:
            for result in results:
                tally.add(result)
        # Taken before the extras, which are no part of the scoring speed.
        seconds = time.perf_counter() - started
        if on_finished:
            on_finished(FinishedRun(model, job, shards))

    newly_done = tally.done - already_done
    return ScoreSummary(
        images=len(found.paths),
        scored=tally.done - tally.failed,
        failed=tally.failed,
        seconds=seconds,
        images_per_second=newly_done / seconds if newly_done else 0.0,
        output=job.output,
        already_done=already_done,
        runtime=job.runtime,
        left_out=found.left_out,
        known=tally.known,
    )


def _fastest(model: ScoringModel, shards: Sequence[Shard]) -> str:
    """The runtime for ``auto``; the reference for a few images, which are scored before a trial is over."""
    if sum(len(shard.paths) for shard in shards) <= FEW_IMAGES:
        return RUNTIMES[0]
    from export.scoring.runtimes.selection import choose_runtime

    return choose_runtime(model, shards[0])[0]


def _score(
    model: ScoringModel, job: ShardJob, shards: Sequence[Shard], processes: int | None, ray: str | None
) -> Generator[ShardResult]:
    """Score shards here, in worker processes or on a cluster; the rows are the same."""
    if ray is not None:
        if shards:
            from export.scoring.pools.ray_pool import score_on_ray

            with closing(score_on_ray(job, shards, ray, processes)) as results:
                yield from results
        return
    n_images = sum(len(shard.paths) for shard in shards)
    # More processes than shards would only load the model and wait.
    processes = min(processes or usable_cpus(), len(shards))
    if processes <= 1 or n_images <= FEW_IMAGES:
        containers = ContainerReader()
        if shards:
            check_probe(model)
        for shard in shards:
            yield score_shard(model, job, shard, containers=containers)
    else:
        with closing(score_in_processes(job, shards, processes)) as results:
            yield from results


class _Tally:
    """Images done and failed so far, told to whoever listens."""

    def __init__(self, images: int, on_progress: OnProgress | None) -> None:
        self.done = 0
        self.failed = 0
        self.known = 0
        self._images = images
        self._on_progress = on_progress

    def add(self, *results: ShardResult) -> None:
        """Count finished shards."""
        self.done += sum(result.images for result in results)
        self.failed += sum(result.failed for result in results)
        self.known += sum(result.known for result in results)
        if self._on_progress:
            self._on_progress(self.done, self.failed, self._images)
