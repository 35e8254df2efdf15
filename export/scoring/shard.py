"""One shard: decode, score, write one part file. One row per image, whatever the image is like.

A part file holds its own counts, in the parquet footer. Rows and counts appear together by one rename, so a
crash never leaves one without the other.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import DataError, ImageError
from contracts.files import atomic_writer
from contracts.triage import TRIAGE_NAMES
from export.scoring.model import ScoringModel
from export.scoring.plan import Levels, Override, Shard, printable_path
from export.scoring.watch.batch import FOOTER_KEY, count_images, log_odds_in_training
from export.scoring.watch.reference import reference_of
from imagedata.containers.reader import ContainerReader
from imagedata.decoding.decode import DecodedImage, DecodeSettings, decode_bytes, read_image_bytes
from imagedata.decoding.facts import TITLES, picture_facts

DEFAULT_BATCH_SIZE = 4
"""Images per call of the graph. On a CPU 1 to 32 are equally fast (within 4 %), but memory grows with it: the
default ensemble takes 400 MB at 4, and 715 MB at 16. A GPU needs larger batches."""

_RESULT_KEY = b"outnumbered_result"

BeforeImage = Callable[[int], None]


@dataclass(frozen=True)
class ShardResult:
    """The counts of a finished shard.

    Attributes:
        shard: its id.
        images: rows in the part file.
        failed: rows with status ``failed``.
        known: images that the model was trained on.
    """

    shard: str
    images: int
    failed: int
    known: int = 0


@dataclass(frozen=True)
class ShardJob:
    """What is the same for every shard of a run; small, so that it travels to worker processes.

    Attributes:
        model_path: the exported file.
        output: folder of the part files.
        batch_size: images per call of the graph.
        prior: override, or None.
        threshold: override, or None.
        runtime: one of :data:`export.scoring.model.RUNTIMES`.
        levels: overrides of the error rates of triage, or None.
    """

    model_path: Path
    output: Path
    batch_size: int = DEFAULT_BATCH_SIZE
    prior: Override = None
    threshold: Override = None
    runtime: str = "onnxruntime"
    levels: Levels = None


def score_shard(
    model: ScoringModel,
    job: ShardJob,
    shard: Shard,
    *,
    before_image: BeforeImage | None = None,
    given_up: Mapping[int, str] | None = None,
    containers: ContainerReader | None = None,
) -> ShardResult:
    """Score the images of a shard and write its part file.

    Args:
        model: the loaded ``job.model_path``.
        job: output folder, batch size, overrides.
        shard: the images.
        before_image: called with each image's position before the image is touched, so that whoever
            watches can tell which image ended the process. Images are then scored one at a time.
        given_up: position → reason of images that are not touched but recorded as failed.
        containers: reader of images within larger files, kept from shard to shard, so that each compressed
            archive is read once; None for one of this shard.

    Returns:
        The counts, after the part file is in place.

    Raises:
        ModelError: the graph fails.
        DataError: the part file cannot be written (disk full, folder not writable).
    """
    rows = _Rows(model, shard)
    reasons = given_up or {}
    containers = containers or ContainerReader()
    batch_size = 1 if before_image else job.batch_size
    known = 0
    for start in range(0, len(shard.paths), batch_size):
        pixels, positions = [], []
        for position in range(start, min(start + batch_size, len(shard.paths))):
            if position in reasons:
                rows.fail(position, reasons[position])
                continue
            if before_image:
                before_image(position)
            try:
                data = read_row(shard, position, containers)
                decoded = decode_bytes(data, model.decode)
            except ImageError as error:
                rows.fail(position, str(error))
                continue
            known += model.training_images is not None and data in model.training_images
            rows.see(position, decoded, len(data))
            pixels.append(decoded.pixels)
            positions.append(position)
        if pixels:
            rows.fill(positions, model, np.stack(pixels), job)
    result = ShardResult(shard.id, len(shard.paths), rows.failed, known)
    write_part(job.output / shard.file_name, rows.to_table(result, rows.footer(model, job)))
    return result


def decode_row(
    shard: Shard, position: int, settings: DecodeSettings, containers: ContainerReader
) -> DecodedImage:
    """Decode one image of a shard, wherever it lies.

    Raises:
        ImageError: it cannot be read, or is not an image.
    """
    return decode_bytes(read_row(shard, position, containers), settings)


def read_row(shard: Shard, position: int, containers: ContainerReader) -> bytes:
    """The bytes of one image file of a shard, wherever it lies.

    Raises:
        ImageError: it cannot be read.
    """
    packed = shard.packed.get(position)
    return read_image_bytes(Path(shard.paths[position])) if packed is None else containers.read(packed)


def probability_columns(model: ScoringModel) -> list[str]:
    """Names of the columns with calibrated probabilities: one for two classes, else one per class.

    They are there, and null, also where the file gives no probability.
    """
    if len(model.classes) == 2:
        return ["probability"]
    return [f"probability_{class_name}" for class_name in model.classes]


def columns_of(model: ScoringModel) -> pa.Schema:
    """Names and types of a part file's columns, in order; all but ``path`` and ``status`` may be null."""
    judged = [*probability_columns(model), "p_normal", "p_minority", "decision", "triage"]
    numbers = [*judged, *(f"score_{member}" for member in model.members)]
    return pa.schema(
        [("path", pa.string())]
        + [(name, pa.string() if name in ("decision", "triage") else pa.float32()) for name in numbers]
        + [("status", pa.string()), ("error", pa.string())]
    )


def read_shard_result(part: Path, shard: Shard) -> ShardResult | None:
    """Read the counts of a part file; None where it is not a complete part file of this shard."""
    try:
        footer = pq.read_metadata(part)
        result = ShardResult(**json.loads((footer.metadata or {})[_RESULT_KEY]))
    except (OSError, pa.ArrowInvalid, KeyError, ValueError, TypeError):
        return None
    return result if (result.shard, footer.num_rows) == (shard.id, len(shard.paths)) else None


def writing_failed(output: Path, error: OSError) -> DataError:
    """Turn a failure to write into a sentence that says what to do; finished shards are safe."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        problem = f"no space is left ({os.strerror(error.errno)})"
        remedy = "Free some space"
    else:
        problem = error.strerror or str(error)
        remedy = "Make the folder writable"
    return DataError(
        f"output {output}: results cannot be written: {problem}. "
        f"{remedy} and give the same command again; finished shards are kept."
    )


class _Rows:
    """Columns of a part file while they fill up; a row nobody fills is one with nulls."""

    def __init__(self, model: ScoringModel, shard: Shard) -> None:
        n_rows = len(shard.paths)
        self._shard = shard
        self._classes = model.classes
        self._columns = columns_of(model)
        self._probability_names = probability_columns(model)
        self._score_names = [f"score_{member}" for member in model.members]
        self._probability = np.full((n_rows, len(self._probability_names)), np.nan, dtype=np.float32)
        self._p_normal, self._p_minority = (np.full(n_rows, np.nan, dtype=np.float32) for _ in range(2))
        self._scores = np.full((n_rows, len(self._score_names)), np.nan, dtype=np.float32)
        self._decision: list[str | None] = [None] * n_rows
        self._triage: list[str | None] = [None] * n_rows
        self._errors: list[str | None] = [None] * n_rows
        self._watch = reference_of(model.document)
        self._facts = np.zeros((n_rows, len(TITLES)), dtype=np.float32)
        n_watched = 0 if self._watch is None else self._watch.n_features
        self._features = np.zeros((n_rows, n_watched), dtype=np.float32)

    @property
    def failed(self) -> int:
        """Rows with a reason."""
        return sum(error is not None for error in self._errors)

    def fail(self, position: int, reason: str) -> None:
        """Record why an image has no scores."""
        self._errors[position] = printable_path(reason)

    def see(self, position: int, image: DecodedImage, n_bytes: int) -> None:
        """Take the facts of a decoded picture, where the model's file has something to compare them with."""
        if self._watch is not None:
            self._facts[position] = picture_facts(image, n_bytes)

    def footer(self, model: ScoringModel, job: ShardJob) -> dict[bytes, bytes]:
        """What is kept of the scored rows for the watch; nothing for files without one."""
        if self._watch is None:
            return {}
        scored = np.array([error is None for error in self._errors])
        p = self._probability[scored]
        log_odds = None
        if model.has_probability:
            p = p[:, 0] if p.shape[1] == 1 else p
            log_odds = log_odds_in_training(p, job.prior, model.document)
        features = self._features[scored]
        counts = count_images(
            self._watch, model.members, self._facts[scored], self._scores[scored], log_odds, features
        )
        return {FOOTER_KEY: counts.to_bytes()}

    def fill(
        self, positions: list[int], model: ScoringModel, images: npt.NDArray[np.uint8], job: ShardJob
    ) -> None:
        """Score ``images`` and put the results into the rows at ``positions``."""
        scores = model.run(images, job.prior, job.threshold, levels=job.levels)
        finite = scores.finite
        for row, position in enumerate(positions):
            if not finite[row]:
                self.fail(position, "the model gave a score that is not a finite number.")
                continue
            # What the file does not give stays NaN, which becomes null.
            if scores.probability is not None:
                self._probability[position] = scores.probability[row]
            if scores.p_normal is not None:
                self._p_normal[position] = scores.p_normal[row]
            if scores.p_minority is not None and scores.triage is not None:
                self._p_minority[position] = scores.p_minority[row]
                self._triage[position] = TRIAGE_NAMES[int(scores.triage[row])]
            self._scores[position] = scores.member_scores[row]
            self._decision[position] = self._classes[int(scores.decision[row])]
            if scores.watched_features is not None and self._features.size:
                self._features[position] = scores.watched_features[row]

    def to_table(self, result: ShardResult, footer: Mapping[bytes, bytes]) -> pa.Table:
        """The finished columns, with the shard's counts and ``footer`` in the schema's metadata."""
        status = ["ok" if error is None else "failed" for error in self._errors]
        columns = {"path": text_column([printable_path(path) for path in self._shard.paths])}
        for index, name in enumerate(self._probability_names):
            columns[name] = _number_column(self._probability[:, index])
        columns["p_normal"] = _number_column(self._p_normal)
        columns["p_minority"] = _number_column(self._p_minority)
        columns["decision"] = text_column(self._decision)
        columns["triage"] = text_column(self._triage)
        for index, name in enumerate(self._score_names):
            columns[name] = _number_column(self._scores[:, index])
        columns["status"] = text_column(status)
        columns["error"] = text_column(self._errors)
        schema = self._columns.with_metadata({_RESULT_KEY: json.dumps(asdict(result)).encode(), **footer})
        return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


# Columns are put together from buffers because pa.array imports pandas wherever it is installed, most of
# a second in every worker.


def _number_column(values: npt.NDArray[np.float32]) -> pa.Array[Any]:
    """A float32 column in which NaN, which no score is, becomes null."""
    present = np.packbits(~np.isnan(values), bitorder="little")
    return pa.Array.from_buffers(
        pa.float32(), len(values), [pa.py_buffer(present.tobytes()), pa.py_buffer(values.tobytes())]
    )


def text_column(values: Sequence[str | None]) -> pa.Array[Any]:
    """A string column; None becomes null."""
    encoded = [b"" if value is None else value.encode("utf-8") for value in values]
    offsets = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    present = np.packbits([value is not None for value in values], bitorder="little")
    return pa.Array.from_buffers(
        pa.string(),
        len(values),
        [pa.py_buffer(present.tobytes()), pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"".join(encoded))],
    )


def write_part(path: Path, table: pa.Table) -> None:
    """Write a part file whole or not at all."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    try:
        with atomic_writer(path) as handle:
            handle.write(buffer.getbuffer())
    except OSError as error:
        raise writing_failed(path.parent, error) from error
