"""Which images are alike: "more like this" beside a picture, and near copies that need one look only.

An exported file gives no features, so images are compared by what it does give: the members' scores, the map
of the evidence, and a small grey picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from imagedata.audit.facts import THUMBNAIL_SIDE
from imagedata.audit.hashing import correlations, near_pairs, perceptual_hashes, worth_a_look
from imagedata.near_duplicates import components
from service.records import Scored

_THUMBNAIL_BYTES = THUMBNAIL_SIDE * THUMBNAIL_SIDE


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


def near_copies(rows: Sequence[Scored]) -> dict[str, str]:
    """Image → name of its picture, for images that are near copies of one another.

    Hashes find the pairs, thumbnails confirm them by the stricter of the rules that ``check`` has, which
    holds for aligned parts as well. What is taken for a copy by mistake is asked about later, not never.
    """
    usable = [row for row in rows if row.descriptor]
    if len(usable) < 2:
        return {}
    thumbnails = thumbnails_of(usable)
    pairs: list[tuple[str, str]] = []
    for block in near_pairs(perceptual_hashes(thumbnails)[0]):
        whole, detail = correlations(thumbnails, block, np.zeros(len(block), dtype=np.bool_))
        alike = worth_a_look(whole, detail, alike=True)
        pairs += [(usable[left].image, usable[right].image) for left, right in block[alike].tolist()]
    return {image: linked[0] for linked in components(pairs) for image in linked}
