"""Where a student's file and its figures lie, and whether it is still of the ensemble that is there."""

from __future__ import annotations

from contracts.files import read_json
from reporting.terminal import note
from workflow.settings.config import RunConfig

FILE, DOCUMENT, DEPLOY_FOLDER = "student.onnx", "export.student.json", "deploy-student"

STALE = "distilled from an earlier ensemble; export it again with --distil."


def note_stale_student(config: RunConfig, ensemble_key: str) -> None:
    """Say so where the run has a student of another ensemble than the one that is fitted now.

    Args:
        config: the run.
        ensemble_key: of its ensemble, see :func:`workflow.run.state.ensemble_key`.
    """
    path = config.folder / DOCUMENT
    if not path.exists():
        return
    document = read_json(path)
    if document["student_of"] != ensemble_key:
        command = config.options.command("export", "--distil", "--student", document["student"]["name"])
        note(f"{document['model']} is stale: {STALE} Command: {command}")
