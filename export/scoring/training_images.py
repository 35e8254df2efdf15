"""Which images a model was trained on, in a few bytes each: no names, no pixels, no paths.

Of every training file the exported file holds the first :data:`_DIGEST_BYTES` bytes of its SHA-256, and of
all of them the set of sizes in bytes. A scored file is hashed only if a training file has its size, so that
most files of another origin cost one look-up.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

METADATA_KEY = "outnumbered_training_images"
"""Key of the JSON document in an ONNX file's metadata."""

_DIGEST_BYTES = 6
"""With N training images an unrelated file of a known size is taken for one of them with a probability of
N / 2^48: for 65,536 images, once in four thousand million files."""

MOST_IMAGES = 1 << 16
"""Most images that a file names, so that this part of it stays below a megabyte."""


@dataclass(frozen=True)
class TrainingImages:
    """The images that a model was trained on.

    Attributes:
        digests: the first bytes of each file's SHA-256.
        sizes: of the files, in bytes; empty where they are not known, and every file is hashed.
        total: number of training images; more than there are digests where these are a sample.
    """

    digests: frozenset[bytes]
    sizes: frozenset[int]
    total: int

    @classmethod
    def of(cls, sha256s: Iterable[str], sizes: Sequence[int]) -> TrainingImages:
        """From hex digests and sizes; of more than :data:`MOST_IMAGES` the lowest digests are kept.

        Args:
            sha256s: of the files; repeated ones count once.
            sizes: of all files; empty where one is not known.
        """
        distinct = sorted(set(sha256s))
        kept = [bytes.fromhex(each)[:_DIGEST_BYTES] for each in distinct[:MOST_IMAGES]]
        return cls(frozenset(kept), frozenset(sizes), len(distinct))

    def __contains__(self, data: object) -> bool:
        """Whether the bytes of a file are those of a training image."""
        if not isinstance(data, bytes) or (self.sizes and len(data) not in self.sizes):
            return False
        return hashlib.sha256(data).digest()[:_DIGEST_BYTES] in self.digests

    def to_text(self) -> str:
        """As an ONNX file's metadata keeps it; equal images give equal text."""
        sizes = np.array(sorted(self.sizes), dtype="<u4")
        document = {
            "digests": b64encode(b"".join(sorted(self.digests))).decode(),
            "sizes": b64encode(sizes.tobytes()).decode(),
            "total": self.total,
        }
        return json.dumps(document, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> TrainingImages:
        """Read what :meth:`to_text` wrote.

        Raises:
            ValueError, KeyError, TypeError: it is damaged.
        """
        document = json.loads(text)
        digests, step = b64decode(document["digests"]), _DIGEST_BYTES
        sizes = np.frombuffer(b64decode(document["sizes"]), dtype="<u4")
        return cls(
            frozenset(digests[start : start + step] for start in range(0, len(digests), step)),
            frozenset(sizes.tolist()),
            int(document["total"]),
        )
