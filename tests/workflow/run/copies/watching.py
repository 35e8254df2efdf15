"""A member that learns nothing and keeps which rows it was given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def watch_members(monkeypatch: pytest.MonkeyPatch, kind: str) -> dict[str, Any]:
    """Put such a member in the place of all; returns where its rows of ``fit`` and ``scored`` will lie."""
    from workflow.training import train as train_all

    seen: dict[str, Any] = {}

    class Watching:
        kind: str

        def fit(self, rows, context):
            seen["fit"] = rows
            return self

        def score(self, rows):
            seen["scored"] = rows
            return np.zeros((len(rows), 1), dtype=np.float32)

        def state(self):
            return {}, {}

    Watching.kind = kind
    monkeypatch.setattr(train_all, "build_member", lambda *_: Watching())
    monkeypatch.setattr(train_all, "map_quantiles", lambda *_: None)
    return seen
