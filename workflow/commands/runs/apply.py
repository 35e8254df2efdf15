"""``apply``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workflow.commands.options import Device, DeviceName, Tracking, answers


@answers()
def apply(
    state: Annotated[
        Path, typer.Argument(help="Folder that serve keeps its answers in.", show_default=False)
    ],
    run: Annotated[
        Path, typer.Argument(help="The run folder, such as runs/parts/quick.", show_default=False)
    ],
    who: Annotated[str, typer.Option("--who", help="Your name, for the history of files.")] = "",
    hold_back: Annotated[
        float,
        typer.Option("--hold-back", help="Share of the answers of each class that never trains, 0 to 0.5."),
    ] = 0.2,
    device: DeviceName = Device.auto,
    tracking: Tracking = True,
) -> Any:
    """Teach a run with the answers of serve, each once, and compare the new file with the one in use."""
    from workflow.applying.apply import apply as apply_answers

    return apply_answers(state, run, who=who, share=hold_back, device=device.word, tracking=tracking)
