"""Fixtures that the tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real small image sets beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real image sets in {SHARED_DATA}")
    return SHARED_DATA
