"""Rows of the benchmarks are rows like any other."""

import numpy as np

from benchmarks.rows import MemoryRows
from contracts.rows import ImageRows


def test_all_that_members_ask_of_rows_is_there():
    promised = {name for name in vars(ImageRows) if not name.startswith("_")}
    rows = MemoryRows(np.array([0, 0, 1]), np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3))
    assert [name for name in sorted(promised) if not hasattr(rows, name)] == []
    assert len(rows) == len(set(rows.digests)) == 3
    assert len(rows.subset(np.array([2])).digests) == 1
