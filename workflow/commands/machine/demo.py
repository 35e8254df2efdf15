"""``demo``."""

from __future__ import annotations

from typing import Any

from workflow.commands.options import DEFAULT_RUNS, RecipeName, Runs, Tracking, answers


@answers()
def demo(runs: Runs = DEFAULT_RUNS, recipe: RecipeName = "quick", tracking: Tracking = True) -> Any:
    """Train, export and score on images of solar cells that come with a pip package."""
    from workflow.demo import demo

    return demo(runs, recipe, tracking)
