"""What all tests of pages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _short_learning_curves() -> Iterator[None]:
    """Two draws, not eight: every first report of a run makes a curve, whose own tests are elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workflow.comparing.learning_curve.MOST_DRAWS", 2)
        patch.setattr("workflow.comparing.learning_curve.FEWEST_DRAWS", 2)
        yield
