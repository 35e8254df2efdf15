"""Which images are alike: "more like this" beside a picture, and near copies that need one look only.

Images are compared by what an exported file gives: the members' scores, pooled features along the few
directions that the watch has (files without it have none), the map of the evidence, and a small grey picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from imagedata.audit.facts import THUMBNAIL_SIDE
from imagedata.audit.hashing import HASH_DISTANCE, correlations, perceptual_hashes, worth_a_look
from service.records import Scored

_THUMBNAIL_BYTES = THUMBNAIL_SIDE * THUMBNAIL_SIDE
_REMEMBERED = 5000  # images, a kilobyte each


def thumbnails_of(rows: Sequence[Scored]) -> npt.NDArray[np.uint8]:
    """``[N, 32, 32]`` grey; black where a row has no descriptor."""
    blank = bytes(_THUMBNAIL_BYTES)
    parts = [(row.descriptor or blank)[:_THUMBNAIL_BYTES] for row in rows]
    return np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)


def vector_of(row: Scored) -> npt.NDArray[np.float32]:
    """What images are compared by; empty where a row has no descriptor."""
    return np.frombuffer((row.descriptor or b"")[_THUMBNAIL_BYTES:], dtype="<f2").astype(np.float32)


def most_alike(image: Scored, others: Sequence[Scored], most: int) -> list[Scored]:
    """Others that are most alike, the nearest first; of the same model, as its scores are compared.

    Args:
        image: the one.
        others: any rows; itself is passed over.
        most: how many.
    """
    own = vector_of(image)
    comparable = [
        row
        for row in others
        if row.image != image.image and row.model == image.model and len(vector_of(row)) == len(own)
    ]
    if not comparable or not len(own):
        return []
    distance = np.linalg.norm(np.stack([vector_of(row) for row in comparable]) - own, axis=1)
    return [comparable[place] for place in np.argsort(distance, kind="stable")[:most]]


class NearCopies:
    """Which images are near copies of one another, found as they come: each new one is compared once.

    Hashes find the pairs, thumbnails confirm them by the stricter of the rules that ``check`` has, which
    holds for aligned parts as well. What is taken for a copy by mistake is asked about later, not never.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._place: dict[str, int] = {}
        self._hashes: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._thumbnails: npt.NDArray[np.uint8] = thumbnails_of([])
        self._copies: dict[str, set[str]] = {}

    def of(self, rows: Sequence[Scored]) -> Mapping[str, set[str]]:
        """Image → its near copies; images that have none are left out.

        Args:
            rows: all that matter now. Earlier ones may stand in the answer, too.
        """
        if len(self._place) > max(_REMEMBERED, 2 * len(rows)):
            self._forget()
        new = list(
            {row.image: row for row in rows if row.descriptor and row.image not in self._place}.values()
        )
        if not new:
            return self._copies
        first, thumbnails = len(self._place), thumbnails_of(new)
        self._place |= {row.image: first + number for number, row in enumerate(new)}
        self._hashes = np.concatenate([self._hashes, perceptual_hashes(thumbnails)[0]])
        self._thumbnails = np.concatenate([self._thumbnails, thumbnails])
        names = list(self._place)
        for place in range(first, len(names)):
            near = np.bitwise_count(self._hashes[:place] ^ self._hashes[place]) <= HASH_DISTANCE
            pairs = np.stack([np.flatnonzero(near), np.full(near.sum(), place)], axis=1)
            whole, detail = correlations(self._thumbnails, pairs, np.zeros(len(pairs), dtype=np.bool_))
            for other in pairs[worth_a_look(whole, detail, alike=True), 0].tolist():
                self._copies.setdefault(names[place], set()).add(names[other])
                self._copies.setdefault(names[other], set()).add(names[place])
        return self._copies
