"""Where a student's file and its figures lie, and whether it is still of the ensemble that is there."""

from __future__ import annotations

from contracts.files import read_json
from reporting.terminal import note
from workflow.run.state import Run

FILE, DOCUMENT, DEPLOY_FOLDER = "student.onnx", "export.student.json", "deploy-student"

STALE = "distilled from an earlier ensemble; export it again with --distil."


def note_stale_student(run: Run) -> None:
    """Say so if the run has a student of another ensemble than the one that is fitted now."""
    path = run.folder / DOCUMENT
    if not path.exists():
        return
    document = read_json(path)
    if document["student_of"] != run.key:
        command = run.config.options.command("export", "--distil", "--student", document["student"]["name"])
        note(f"{document['model']} is stale: {STALE} Command: {command}")
