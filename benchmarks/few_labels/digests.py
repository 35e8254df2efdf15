"""What figures depend on, so that they are computed again when it changes and only then."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from contracts.files import digest_of, sha256_of_file
from contracts.scores import ScoreTable

_ROOT = Path(__file__).parents[2]


@cache
def digest_of_code(*folders: str) -> str:
    """Digest of all Python files below some folders of the repository."""
    files = sorted(path for folder in folders for path in (_ROOT / folder).rglob("*.py"))
    return digest_of([sha256_of_file(path) for path in files])


def digest_of_tables(tables: Sequence[ScoreTable]) -> str:
    """Digest of what a fusion sees of score tables."""
    return digest_of(
        [
            [t.scores.tobytes().hex(), t.labels.tolist(), t.fold_of_row.tolist(), list(t.member_names)]
            for t in tables
        ]
    )
