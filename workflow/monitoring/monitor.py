"""``outnumbered monitor``: batches of scores over time as one document and one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contracts.errors import UsageError
from contracts.files import write_text
from export.scoring.watch.drift import FALSE_ALARMS
from reporting.terminal import note
from workflow.monitoring.answers import watch_answers
from workflow.monitoring.batches import read_batches, together


def monitor(scores: Sequence[Path], output: Path, answers: Path | None = None) -> dict[str, Any]:
    """Compare batches with training, one by one and together, and write the page.

    Args:
        scores: folders that ``score`` wrote, or folders of such folders.
        output: the page.
        answers: table of answered images; None for none.

    Returns:
        The JSON document: ``{model, minority, normal, batches, together, calibration,
        expected_false_alarms, page}``.

    Raises:
        UsageError, DataError: with one sentence each.
    """
    if output.is_dir():
        raise UsageError(
            f"--output {output}: that is a folder. Name the file, such as {output / 'monitor.html'}."
        )
    batches = read_batches(scores)
    reference = batches[0].reference
    calibration = None if answers is None else watch_answers(answers, batches)
    document: dict[str, Any] = {
        "model": batches[0].model,
        "minority": reference.minority,
        "normal": reference.normal,
        "batches": [
            {
                "folder": str(batch.folder),
                "scored": batch.scored,
                "prior": batch.prior,
                **batch.watch.to_json(),
            }
            for batch in batches
        ],
        "together": together(batches).to_json(),
        "calibration": None if calibration is None else calibration.to_json(),
        "expected_false_alarms": FALSE_ALARMS * len(batches),
        "page": str(output),
    }
    write_text(output, _page(document))
    _tell(document)
    return document


def _page(document: dict[str, Any]) -> str:
    try:
        from reporting.monitor.page import render_monitor
    except ImportError as error:
        raise UsageError(
            f"monitor: {error.name} is not installed, with which the page is drawn. Run: pip install "
            "'outnumbered[train]'"
        ) from error
    return render_monitor(document)


def _tell(document: dict[str, Any]) -> None:
    """A line for each batch that is not as usual, and the whole."""
    alarms = [batch for batch in document["batches"] if batch["alarm"]]
    note(
        f"{len(alarms)} of {len(document['batches'])} batches raise an alarm; without any change "
        f"{document['expected_false_alarms']:.2g} or fewer are to be expected."
    )
    for batch in alarms:
        note(f"{batch['folder']}, {batch['scored']}: {batch['sentences'][0]}")
    note(f"All together: {' '.join(document['together']['sentences'])}")
    if document["calibration"] is not None:
        note(document["calibration"]["sentence"])
    note(f"Page: {document['page']}")
