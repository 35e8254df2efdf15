"""Whether a file is what was exported, and computed here as measured; for ``inspect`` and ``doctor``."""

from __future__ import annotations

from typing import Any

from export.scoring.model import ScoringModel
from export.scoring.probe import LIMIT, run_probe
from export.scoring.seal import check_seal


def checked_here(model: ScoringModel) -> dict[str, Any]:
    """Check seal and probe of a loaded file on this machine, by the runtime it is loaded in.

    Returns:
        ``{"sealed": bool, "probe": {...} | None}``: whether the file states its digest, which then holds, and
        :meth:`export.scoring.probe.ProbeResult.to_json`; files of earlier versions have neither.

    Raises:
        ModelError: the content is not what was exported, or the graph fails.
    """
    is_sealed = check_seal(model.path)
    result = run_probe(model)
    return {"sealed": is_sealed, "probe": None if result is None else result.to_json()}


def sentence_of_checks(found: dict[str, Any]) -> str:
    """What :func:`checked_here` found, for people."""
    content = (
        "Its content is what was exported."
        if found["sealed"]
        else "It states no digest of its own: made by an earlier version, it is taken as it is."
    )
    probe = found["probe"]
    if probe is None:
        return f"{content} It holds no pictures to check this machine by."
    here = "as" if probe["passed"] else "NOT as"
    return (
        f"{content} {probe['runtime']} on this machine computes it {here} it was measured: on three made "
        f"pictures scores differ by at most {probe['largest']:.1g} standard deviations (limit {LIMIT:g})."
    )
