"""The folders of README's first story."""

from pathlib import Path

import pytest

from benchmarks.first_day import first_day
from contracts.errors import UsageError


def test_folders_share_no_cell_and_are_never_written_over(tmp_path: Path) -> None:
    made = first_day(tmp_path / "new", tmp_path / "runs")["folders"]
    assert made["cells/good"] == made["line/good"] == 200
    assert made["line/bad"] == 40
    names = [path.name for path in (tmp_path / "new").rglob("*.png")]
    assert len(names) == len(set(names)) == sum(made.values())
    with pytest.raises(UsageError, match="Remove it, or name another place"):
        first_day(tmp_path / "new", tmp_path / "runs")
