"""An exported file, opened for scoring: its promises read from metadata and checked, then run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from contracts.errors import ModelError, UsageError, nearest_match
from contracts.files import sha256_of_file
from contracts.rows import FloatArray, ImageArray
from export.scoring.plan import Levels, Override
from export.scoring.promises import check_graph, check_levels, read_document, read_training_images
from export.scoring.runtimes.loading import loader
from export.scoring.runtimes.sessions import (
    GraphSession,
    OpenedLater,
    Port,
    first_line,
    open_onnxruntime,
)
from export.scoring.training_images import TrainingImages
from imagedata.decoding.decode import DecodeSettings

TOGETHER = "anomaly_map"
"""Output that holds all maps together; in files of earlier versions the map of the first member with one."""

MAP_PREFIX = "map_"
"""Before a member's name: the output that holds its map alone."""

RUNTIMES = ("onnxruntime", "openvino")
"""Names of the runtimes; the first is the reference that the others are compared with."""

NO_PROBABILITY = "Probability needs labelled minority images; none was known when it was made."
"""Why a file has none, for people."""


class Scores(NamedTuple):
    """What the graph says of N images; K classes, M member columns.

    Attributes:
        probability: ``[N]`` float32, calibrated probability of the minority; ``[N, K]`` for K > 2 classes.
            None where no minority image was labelled.
        p_normal: ``[N]`` float32, how often a normal image looks at least as odd; None in files of earlier
            versions.
        decision: ``[N]`` int64, position in the model's classes.
        member_scores: ``[N, M]`` float32, higher = more like the minority.
        anomaly_map: ``[N, h, w]`` float32, all maps together; None where not asked for, or where none is.
        maps: member → ``[N, h, w]`` float32 its own map; empty likewise, and in files of earlier versions.
        p_minority: ``[N]`` float32, how often an image of the minority looks at least as normal; None where
            no minority image was labelled, and in files of earlier versions.
        triage: ``[N]`` int64, position in :data:`contracts.triage.TRIAGE_NAMES`; None likewise.
        watched_features: ``[N, k]`` float32, pooled features along a few directions, for the watch and
            for likeness; None where the file gives none, as files of earlier versions do.
    """

    probability: FloatArray | None
    p_normal: FloatArray | None
    decision: npt.NDArray[np.int64]
    member_scores: FloatArray
    anomaly_map: FloatArray | None = None
    maps: Mapping[str, FloatArray] = MappingProxyType({})
    p_minority: FloatArray | None = None
    triage: npt.NDArray[np.int64] | None = None
    watched_features: FloatArray | None = None

    @property
    def finite(self) -> npt.NDArray[np.bool_]:
        """``[N]`` whether every number about an image is one."""
        judged = (self.probability, self.p_normal, self.p_minority, self.watched_features)
        there = [each for each in judged if each is not None]
        columns = [each.reshape(len(self.decision), -1) for each in (*there, self.member_scores)]
        return np.asarray(np.isfinite(np.concatenate(columns, axis=1)).all(axis=1))


@dataclass(frozen=True)
class ScoringModel:
    """One loaded ONNX file.

    Attributes:
        path: where it was read from.
        classes: K class names, minority last.
        members: M names, one a column of ``member_scores``.
        decode: how files become the pixels that the graph was trained on.
        document: the whole metadata document, for whoever wants its other facts.
        outputs: of the graph, in the file's order.
        adjustable: names of the inputs with a default: of ``prior``, ``threshold``, ``miss_rate`` and
            ``false_alarms`` those that the file has.
        session: the loaded graph without what only maps need; one thread of control at a time.
        session_with_maps: the whole graph; the same where it has no map.
        training_images: what tells the images that the model was trained on; None where the file does not.
    """

    path: Path
    classes: tuple[str, ...]
    members: tuple[str, ...]
    decode: DecodeSettings
    document: dict[str, Any]
    outputs: tuple[Port, ...]
    adjustable: frozenset[str]
    session: GraphSession
    session_with_maps: GraphSession
    training_images: TrainingImages | None = None

    @property
    def minority(self) -> str:
        """Name of the class that is outnumbered."""
        return self.classes[-1]

    @property
    def has_probability(self) -> bool:
        """Whether the file gives a probability; it does where labelled minority images were there."""
        return any(port.name == "probability" for port in self.outputs)

    @property
    def has_p_normal(self) -> bool:
        """Whether the file gives p_normal; files of earlier versions do not."""
        return any(port.name == "p_normal" for port in self.outputs)

    @property
    def has_triage(self) -> bool:
        """Whether the file gives p_minority and triage: with labels, and not of an earlier version."""
        return any(port.name == "triage" for port in self.outputs)

    @property
    def has_map(self) -> bool:
        """Whether the file says where in an image the evidence lies."""
        return any(port.name == TOGETHER for port in self.outputs)

    @property
    def maps_of(self) -> tuple[str, ...]:
        """Members whose maps the file gives one by one; none in files of earlier versions."""
        names = [port.name for port in self.outputs if port.name.startswith(MAP_PREFIX)]
        return tuple(name.removeprefix(MAP_PREFIX) for name in names)

    @property
    def precision(self) -> str:
        """``fp32``, ``bf16`` or ``int8``: what the backbones' convolutions may be computed in."""
        return str(self.document.get("precision", "fp32"))

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the file; computed at each call."""
        return sha256_of_file(self.path)

    def check_overrides(self, prior: Override, threshold: Override, levels: Levels = None) -> None:
        """Refuse a prior, threshold or error rate that is out of range or that this file cannot take.

        Raises:
            UsageError: naming the value and its bounds, that the file has it baked in, or that there is no
                probability or triage which it would change.
        """
        check_levels(self.path, levels, self.has_triage)
        if prior is not None and not self.has_probability:
            raise UsageError(
                f"{self.path}: a prior was given, but this file has no probability that it would change. "
                f"{NO_PROBABILITY} Leave the prior out; the threshold is the share of false alarms."
            )
        priors, thresholds = self._as_many("prior", prior), self._as_many("threshold", threshold)
        for share in priors:
            if not 0.0 < share < 1.0:
                raise UsageError(
                    f"prior is {share:g}; it is a share of images, between 0 and 1, both excluded."
                )
        if len(priors) > 1 and abs(sum(priors) - 1.0) > 1e-6:
            raise UsageError(f"prior: the {len(priors)} shares sum to {sum(priors):g}; they must sum to 1.")
        for limit in thresholds:
            if not 0.0 <= limit <= 1.0:
                raise UsageError(f"threshold is {limit:g}; it is a {self.threshold_meaning}, from 0 to 1.")
        if len(thresholds) > 1 and min(thresholds) == 0.0:
            raise UsageError("threshold is 0; of several, which probabilities are divided by, none may be 0.")
        for name, value in (("prior", prior), ("threshold", threshold)):
            if value is not None and name not in self.adjustable:
                shown = ",".join(f"{number:g}" for number in np.atleast_1d(value))
                raise UsageError(
                    f"{self.path}: {name} {shown} was asked for, but this file has its {name} fixed. "
                    f"Leave {name} out."
                )

    def _check_region(self, images: ImageArray) -> None:
        """Refuse pixels that cannot have been cut to the region: the graph would look at all of them."""
        size = self.decode.size
        if self.decode.region is None or images.shape[1:3] == (size, size):
            return
        raise UsageError(
            f"{self.path}: images of shape {tuple(images.shape)}, but this file looks at a region of "
            f"interest only, to which decoding cuts pictures. Give [N, {size}, {size}, 3] that "
            "Scorer.pixels_of made of whole pictures, or score files."
        )

    @property
    def threshold_meaning(self) -> str:
        """What the threshold is on: a probability, or the share of normal images decided otherwise."""
        return "probability" if self.has_probability else "share of false alarms"

    def _as_many(self, name: str, value: Override) -> tuple[float, ...]:
        """The numbers of an override, as many as this file takes; none where there is no override."""
        if value is None:
            return ()
        numbers = value if isinstance(value, tuple) else (value,)
        expected = 1 if len(self.classes) == 2 else len(self.classes)
        if len(numbers) != expected:
            raise UsageError(
                f"{name}: got {len(numbers)} number(s), but {self.path} has {len(self.classes)} classes. "
                "Give "
                + ("one, the minority's." if expected == 1 else f"{expected}: {', '.join(self.classes)}.")
            )
        return numbers

    def run(
        self,
        images: ImageArray,
        prior: Override = None,
        threshold: Override = None,
        *,
        levels: Levels = None,
        with_maps: bool = False,
    ) -> Scores:
        """Score pixels.

        Args:
            images: ``[N, H, W, 3]`` uint8 RGB; exact at working size, resized inside otherwise. A file
                with a region of interest takes them at working size, as decoding gives them.
            prior: share of the minority where the images come from, 0…1 exclusive (of every class for K > 2);
                None for the file's own.
            threshold: probability at and above which the minority is decided (for K > 2 one a class, and
                the largest probability / threshold is decided); without a probability, p_normal up to which
                it is; None for the file's own.
            levels: error rates of triage, ``miss_rate``, ``false_alarms`` or both; None for the file's own.
            with_maps: compute the maps, too; the scores are the same.

        Raises:
            UsageError: see :meth:`check_overrides`; or whole pictures for a file with a region of interest.
            ModelError: the graph fails on these pixels.
        """
        self.check_overrides(prior, threshold, levels)
        self._check_region(images)
        feeds: dict[str, npt.NDArray[Any]] = {"images": np.ascontiguousarray(images)}
        shape = () if len(self.classes) == 2 else (len(self.classes),)
        if prior is not None:
            feeds["prior"] = np.asarray(prior, dtype=np.float32).reshape(shape)
        if threshold is not None:
            feeds["threshold"] = np.asarray(threshold, dtype=np.float32).reshape(shape)
        feeds |= {name: np.asarray(rate, dtype=np.float32) for name, rate in (levels or {}).items()}
        try:
            outputs = (self.session_with_maps if with_maps else self.session).run(feeds)
        except ModelError:
            raise
        except Exception as error:  # runtimes raise many types, none of them public
            raise ModelError(
                f"{self.path}: the graph failed on images of shape {tuple(images.shape)} and type "
                f"{images.dtype}: {first_line(error)}. It takes uint8 [N, H, W, 3]."
            ) from error
        return Scores(
            probability=outputs.get("probability"),
            p_normal=outputs.get("p_normal"),
            decision=outputs["decision"],
            member_scores=outputs["member_scores"],
            anomaly_map=outputs.get(TOGETHER),
            maps={name: outputs[MAP_PREFIX + name] for name in self.maps_of} if with_maps else {},
            p_minority=outputs.get("p_minority"),
            triage=outputs.get("triage"),
            watched_features=outputs.get("watched_features"),
        )


def load_model(
    path: Path, threads: int = 1, runtime: str = "onnxruntime", *, at_first_run: bool = False
) -> ScoringModel:
    """Open an exported file for scoring.

    Args:
        path: a file written by ``outnumbered export``.
        threads: threads within one operator. Runtimes would count the host's cores, not those of
            the container; batches are faster with one thread a process and several processes.
        runtime: one of :data:`RUNTIMES`.
        at_first_run: read what the file says of itself now, and load its graph only when it is first run:
            a tenth of the time, and none of the memory where it never is.

    Returns:
        The model, its metadata read and its inputs and outputs checked.

    Raises:
        UsageError: there is no such file, no such runtime, or it is not installed.
        ModelError: not ONNX, not ours, written by a newer version, or its metadata is damaged.
    """
    path = Path(path)
    if runtime not in RUNTIMES:
        raise UsageError(
            f"runtime '{runtime}' is not known.{nearest_match(runtime, RUNTIMES)} Known: "
            + ", ".join(RUNTIMES)
            + "."
        )
    if not path.is_file():
        raise _no_such_model(path)
    # Unoptimised, because optimising takes most of the time of opening a file.
    facts = open_onnxruntime(path, threads, optimised=False).facts()
    document = read_document(path, facts)
    decode = DecodeSettings.from_json(document["decode"])
    check_graph(path, facts, document)
    names = [port.name for port in facts.outputs]
    maps = [name for name in names if name == TOGETHER or name.startswith(MAP_PREFIX)]
    load = loader(path, facts, document, threads, runtime)
    session = OpenedLater(runtime, partial(load, maps)) if at_first_run else load(maps)
    return ScoringModel(
        path=path,
        classes=tuple(document["classes"]),
        members=tuple(document["members"]),
        decode=decode,
        document=document,
        outputs=facts.outputs,
        adjustable=facts.adjustable,
        session=session,
        # Most who score never ask for a map.
        session_with_maps=OpenedLater(runtime, partial(load, [])) if maps else session,
        training_images=read_training_images(path, facts),
    )


def _no_such_model(path: Path) -> UsageError:
    """Say what is there instead of the model file."""
    if path.is_dir():
        inside = sorted(child.name for child in path.glob("*.onnx"))
        hint = f" It holds {', '.join(inside[:3])}." if inside else ""
        return UsageError(f"model {path} is a folder.{hint} Name the .onnx file itself.")
    neighbours = [child.name for child in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
    return UsageError(
        f"model {path} does not exist.{nearest_match(path.name, neighbours)} "
        "Name a file written by 'outnumbered export'."
    )
