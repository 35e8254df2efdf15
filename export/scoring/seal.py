"""A file's own digest, by which scoring notices that its content changed since it was exported.

One flipped bit in a weight gives a file that opens, runs and answers, only not what was measured. The digest
lies in the file's metadata, under a key of its own, and is of all bytes of the file with 64 zeros in its
place. Files of earlier versions have none and are taken as they are.
"""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path

from contracts.errors import ModelError

KEY = "outnumbered_seal"
"""Key in the ONNX file's metadata."""

BLANK = "0" * 64
"""What stands in place of the digest while it is computed."""

# As protocol buffers write the entry: the key, then the tag of the value and its length.
_MARKER = KEY.encode() + b"\x12\x40"


def sealed(content: bytes) -> bytes:
    """The bytes of an ONNX file whose metadata has :data:`KEY`, with their digest in it.

    Args:
        content: of a file with any 64 characters as the value.

    Raises:
        ValueError: there is no such entry.
    """
    start = content.rfind(_MARKER)
    if start < 0:
        raise ValueError(f"the metadata has no {KEY} of 64 characters")
    start += len(_MARKER)
    before, behind = content[:start], content[start + len(BLANK) :]
    digest = hashlib.sha256(before + BLANK.encode() + behind).hexdigest()
    return before + digest.encode() + behind


def check_seal(path: Path) -> bool:
    """Refuse a file whose content is not what was exported; whether it could tell.

    Reading and hashing takes a few hundredths of a second for a usual file.

    Raises:
        ModelError: another digest.
    """
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.rfind(_MARKER)
        if start < 0:
            return False
        start += len(_MARKER)
        stated = content[start : start + len(BLANK)]
        digest = hashlib.sha256()
        with memoryview(content) as view:
            digest.update(view[:start])
            digest.update(BLANK.encode())
            digest.update(view[start + len(BLANK) :])
    if stated != digest.hexdigest().encode():
        raise ModelError(
            f"{path}: its content changed since it was exported: the file states the digest "
            f"{stated[:12].decode(errors='replace')}…, and its bytes have {digest.hexdigest()[:12]}…. Its "
            "figures do not hold for it. Copy it again from where it was made, or export it again."
        )
    return True
