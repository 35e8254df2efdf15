"""Which answers a job takes, and which of them are held back to judge it by."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imagedata.audit.families import near_copy_families
from imagedata.groups import group_of_path
from service.answers import Answers
from service.applying import ApplyFolder
from service.records import Entry
from workflow.run.prepared import PreparedData
from workflow.settings.config import RunConfig


@dataclass(frozen=True)
class Taken:
    """One answer that a job has taken.

    Attributes:
        image: digest.
        answer: ``normal`` or ``minority``.
        label: class name that the answer stands for.
        kind: of the minority; empty where nobody said.
        file: the image's bytes, in the service's store.
        path: below the data set's root where it lies there, else its name; a group rule reads it.
        role: ``teach`` (goes to ``update``), ``correct`` (a training image of a labelled set, whose label is
            confirmed or corrected), or ``hold_back``.
        who: the person.
    """

    image: str
    answer: str
    label: str
    kind: str
    file: str
    path: str
    role: str
    who: str


def take_answers(
    files: ApplyFolder, config: RunConfig, data: PreparedData, share: float, seed: int
) -> list[Taken]:
    """Decide about all answers that no job has taken yet.

    ``share`` of the answers of each class, over all jobs, is held back, in the order of a hash of seed and
    image; with few answers of a class (fewer than 1 / share) none is, since each teaches more than it tells.
    Near copies, and images of one group, always go the same way as the first of them went.

    Args:
        files: of the service.
        config: of the run.
        data: its rows.
        share: 0…0.5.
        seed: of the draw.
    """
    with_store = Answers(files.answers)
    try:
        waiting = files.waiting(with_store)
        taken = [_taken(with_store, config, data, each) for each in waiting]
        earlier = [each for each in files.entries() if each["outcome"] in {"applied", "held_back"}]
        known = {each["image"]: each for each in earlier}
        files_of = {each["image"]: str(with_store.image(each["image"]).file) for each in earlier}
    finally:
        with_store.close()
    labels_of = {row.sha256 for row in data.manifest.usable("train")}
    corrects = labels_of if not config.spec.unlabelled else set()
    for_test = {row.sha256 for row in data.test}
    free = [each for each in taken if each.image not in corrects | for_test]
    held = _drawn(config, free, known, files_of, share, seed)
    roles = {each.image: "hold_back" if each.image in held else "teach" for each in free}
    return [
        replace(each, role="correct" if each.image in corrects else roles.get(each.image, "teach"))
        for each in taken
    ]


def _taken(answers: Answers, config: RunConfig, data: PreparedData, entry: Entry) -> Taken:
    image = answers.image(entry.image)
    names = config.spec.class_names
    root, place = data.manifest.root.absolute(), image.place
    inside = place is not None and place.is_relative_to(root)
    path = place.relative_to(root).as_posix() if place is not None and inside else Path(image.name).name
    return Taken(
        image=entry.image,
        answer=entry.answer,
        label=names[-1] if entry.answer == "minority" else names[0],
        kind=entry.kind or "",
        file=str(image.file),
        path=path,
        role="teach",
        who=entry.who,
    )


def _drawn(
    config: RunConfig,
    free: Sequence[Taken],
    known: dict[str, dict[str, Any]],
    files_of: dict[str, str],
    share: float,
    seed: int,
) -> set[str]:
    """Digests of the answers that are held back."""
    images = [*known, *(each.image for each in free)]
    paths = [*(Path(files_of[image]) for image in known), *(Path(each.file) for each in free)]
    families = near_copy_families(paths, config.spec.window).tolist()
    family_of = dict(zip(images, families, strict=True))
    members: dict[Any, list[Taken]] = {}
    for each in free:
        group = group_of_path(config.spec.group, each.path) if config.spec.group is not None else ""
        members.setdefault(group or family_of[each.image], []).append(each)
    way_of_family = {family_of[image]: entry["outcome"] for image, entry in known.items()}
    counts = Counter(each.label for each in free) + Counter(entry["label"] for entry in known.values())
    quota = {label: int(share * count) for label, count in counts.items()}
    for entry in known.values():
        quota[entry["label"]] -= entry["outcome"] == "held_back"
    held: set[str] = set()

    def key(together: list[Taken]) -> str:
        return min(hashlib.sha256(f"held back|{seed}|{each.image}".encode()).hexdigest() for each in together)

    for together in sorted(members.values(), key=key):
        ways = {
            way_of_family[family_of[each.image]]
            for each in together
            if family_of[each.image] in way_of_family
        }
        wanted = Counter(each.label for each in together)
        fits = all(quota[label] >= count for label, count in wanted.items())
        if ways == {"held_back"} or (not ways and fits):
            held |= {each.image for each in together}
            for label, count in wanted.items():
                quota[label] -= count
    return held
