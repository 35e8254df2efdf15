"""The watch over a finished run of the scorer: from the footers of its part files alone.

``_watch.json`` holds what a later look over many days needs without the model file:

=============  ==================================================================================
``format``     version of this document, now 1
``scored``     when the newest part file was written, UTC
``model``      SHA-256 of the model file
``reference``  what the file keeps of training: :mod:`export.scoring.watch.reference`
``counts``     of this batch: :class:`~export.scoring.watch.batch.BatchCounts`
``known``      scored images that the model was trained on
``prior``      the estimated share that was applied, or null
``watch``      what was said: :meth:`~export.scoring.watch.verdict.BatchWatch.to_json`
=============  ==================================================================================
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import ModelError
from contracts.files import read_json, write_json
from export.scoring.output import PLAN_NAME, WATCH_NAME
from export.scoring.plan import Shard
from export.scoring.run import FinishedRun
from export.scoring.shard import read_shard_result, text_column, write_part, writing_failed
from export.scoring.summary import thresholds_of
from export.scoring.watch.batch import FOOTER_KEY, BatchCounts, log_odds_in_training
from export.scoring.watch.reference import WatchReference, reference_of
from export.scoring.watch.share import Share
from export.scoring.watch.verdict import BatchWatch, watch_batch

_PRIOR_KEY = b"outnumbered_prior"
"""In a part file's footer: the estimated share that its probabilities refer to, where one was applied."""


def watch_run(run: FinishedRun) -> BatchWatch | None:
    """Compare a finished run with training; None for a file that keeps nothing of it.

    Raises:
        ModelError: what the file keeps of training is damaged.
    """
    reference = reference_of(run.model.document)
    if reference is None:
        return None
    counts, known = _counted(run, reference)
    return watch_batch(reference, counts, known)


def keep_watch(run: FinishedRun, watch: BatchWatch, applied: float | None) -> None:
    """Write ``_watch.json`` beside the part files.

    Args:
        run: finished.
        watch: what :func:`watch_run` said of it.
        applied: the share of the minority that :func:`apply_share` applied.

    Raises:
        DataError: it cannot be written.
    """
    reference = reference_of(run.model.document)
    assert reference is not None  # or there were no watch
    counts, known = _counted(run, reference)
    output = run.job.output
    newest = max((output / shard.file_name).stat().st_mtime for shard in run.shards)
    document = {
        "format": 1,
        "scored": datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds"),
        "model": read_json(output / PLAN_NAME)["settings"]["model_sha256"],
        "reference": reference.to_json(),
        "counts": counts.to_json(),
        "known": known,
        "prior": applied,
        "watch": watch.to_json(),
    }
    try:
        write_json(output / WATCH_NAME, document)
    except OSError as error:
        raise writing_failed(output, error) from error


def apply_share(run: FinishedRun, share: Share) -> float | None:
    """Let probabilities and decisions of all rows refer to the estimated share, or to the file's own prior.

    Nothing is scored again: another prior adds a constant to the log-odds. Part files are rewritten one by
    one, each whole, and say which share they are at, so that the same command goes on after it was killed.

    Args:
        run: finished, scored at the file's own prior, of a file for two classes.
        share: of :func:`watch_run`.

    Returns:
        The share that was applied: the figure, but no lower than what as many images could show (nor higher);
        None where there is no figure and the file's own prior holds.

    Raises:
        DataError: a part file cannot be written.
    """
    applied = None
    if share.figure is not None:
        n = sum(len(shard.paths) for shard in run.shards)
        applied = min(max(share.figure.value, 1.0 / (n + 2.0)), 1.0 - 1.0 / (n + 2.0))
    for shard in run.shards:
        _rewrite(run, shard, applied)
    return applied


def _rewrite(run: FinishedRun, shard: Shard, applied: float | None) -> None:
    """Bring one part file to a share; one that is there already stays."""
    path = run.job.output / shard.file_name
    with pq.ParquetFile(path) as part:
        rows = part.read(use_threads=False)
    footer = dict(rows.schema.metadata)
    earlier = float(footer[_PRIOR_KEY]) if _PRIOR_KEY in footer else None
    if earlier == applied:
        return
    model = run.model
    own = float(model.document["prior"])
    there = np.array(rows["probability"].to_pylist(), dtype=np.float32)  # null becomes NaN
    log_odds = log_odds_in_training(there, earlier, model.document)
    trained, target = float(model.document["trained_prior"]), own if applied is None else applied
    shifted = log_odds + _log_odds(target) - _log_odds(trained)
    p = (1.0 / (1.0 + np.exp(-shifted))).astype(np.float32)
    (threshold,) = thresholds_of(run)
    scored = ~np.isnan(there)
    decided = [
        model.classes[int(p[at] >= np.float32(threshold))] if scored[at] else None for at in range(len(p))
    ]
    columns: dict[str, Any] = {name: rows[name] for name in rows.column_names}
    columns["probability"] = pa.array(p, type=pa.float32(), mask=~scored)
    columns["decision"] = text_column(decided)
    footer.pop(_PRIOR_KEY, None)
    if applied is not None:
        footer[_PRIOR_KEY] = repr(applied).encode()
    schema = rows.schema.with_metadata(footer)
    write_part(path, pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema))


def _log_odds(share: float) -> float:
    return float(np.log(share) - np.log1p(-share))


def _counted(run: FinishedRun, reference: WatchReference) -> tuple[BatchCounts, int]:
    """Counts of all part files together, and the images that the model was trained on."""
    counts, known = BatchCounts.none_of(reference), 0
    for shard in run.shards:
        path = run.job.output / shard.file_name
        footer = pq.read_metadata(path).metadata or {}
        result = read_shard_result(path, shard)
        if result is None or FOOTER_KEY not in footer:
            raise ModelError(
                f"{path}: it holds no counts for the watch. Score these images again with --overwrite."
            )
        counts, known = counts + BatchCounts.from_bytes(footer[FOOTER_KEY]), known + result.known
    return counts, known
