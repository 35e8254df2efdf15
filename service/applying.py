"""The job that teaches a run with answers, as the page sees it: its files, how far it is, how to start it.

The job itself trains and so needs torch, which this room never loads: it is the command ``apply``, run as a
process of its own. Everything between the two goes through files in ``STATE/apply/``, each whole or absent:

=================  ================================================================================
``status.json``    what the job does now, for people; see :class:`Status`
``plan.json``      the answers that the job has taken and not finished with
``ledger.json``    what became of every answer that was ever taken
``result-N.json``  what the N-th job changed: the comparison of the old file with the new one
``log.txt``        what the job of the page said
=================  ================================================================================
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from contracts.errors import UsageError
from contracts.files import read_json, write_json
from service.answers import Answers
from service.records import Entry, now
from service.versions import Versions, only_one

TEACHING = ("normal", "minority")
"""Answers that a model can learn from."""

State = Literal["none", "running", "finished", "failed", "interrupted"]


@dataclass(frozen=True)
class Status:
    """How far the newest job is.

    Attributes:
        state: ``running`` also says that the process lives: of one that was killed it is ``interrupted``.
        job: number, from 1; 0 where there never was one.
        step: what is being done, in words.
        done: finished steps.
        of: all steps.
        started: ISO time.
        updated: ISO time.
        sentence: how it ended, or what to do, for people; empty while it runs.
    """

    state: State = "none"
    job: int = 0
    step: str = ""
    done: int = 0
    of: int = 0
    started: str = ""
    updated: str = ""
    sentence: str = ""


class ApplyFolder:
    """The files of the job beside the store of answers.

    Args:
        state: folder of the service, which holds ``answers.sqlite``.
    """

    def __init__(self, state: Path) -> None:
        self.state = Path(state)
        self.folder = self.state / "apply"

    @property
    def answers(self) -> Path:
        """The store of answers."""
        return self.state / "answers.sqlite"

    @property
    def versions(self) -> Versions:
        """The model files."""
        return Versions(self.state / "versions")

    @property
    def plan(self) -> Path:
        """What the job has taken."""
        return self.folder / "plan.json"

    @property
    def ledger(self) -> Path:
        """What became of each answer."""
        return self.folder / "ledger.json"

    @property
    def log(self) -> Path:
        """What a job of the page said."""
        return self.folder / "log.txt"

    @property
    def lock(self) -> Path:
        """Held while a job lives."""
        return self.folder / ".lock"

    def result(self, job: int) -> Path:
        """What one job changed."""
        return self.folder / f"result-{job}.json"

    def results(self) -> list[dict[str, Any]]:
        """Results of all finished jobs, the newest first."""
        numbers = sorted(int(each.stem.split("-")[1]) for each in self.folder.glob("result-*.json"))
        return [read_json(self.result(number)) for number in reversed(numbers)]

    def entries(self) -> list[dict[str, Any]]:
        """The ledger's entries, oldest first: ``{image, answer, label, outcome, reason, job}``."""
        return list(read_json(self.ledger)["entries"]) if self.ledger.exists() else []

    def waiting(self, answers: Answers) -> list[Entry]:
        """Answers that stand and that no job has taken yet, oldest first."""
        taken = {(each["image"], each["answer"]) for each in self.entries()}
        if self.plan.exists():
            taken |= {(each["image"], each["answer"]) for each in read_json(self.plan)["answers"]}
        return [
            each
            for each in answers.current()
            if each.answer in TEACHING and (each.image, each.answer) not in taken
        ]

    def is_alive(self) -> bool:
        """Whether a job's process lives now."""
        if not self.lock.exists():
            return False
        try:
            with only_one(self.lock, wait=False):
                return False
        except UsageError:
            return True

    def process(self) -> int | None:
        """Id of the living job's process; None where none lives, or it has not said so yet."""
        if not self.is_alive():
            return None
        try:
            return int(self.lock.read_text())
        except (OSError, ValueError):
            return None

    def status(self) -> Status:
        """How far the newest job is; one whose process is gone is interrupted."""
        path = self.folder / "status.json"
        if not path.exists():
            return Status()
        status = Status(**read_json(path))
        if status.state == "running" and not self.is_alive():
            return Status(
                **asdict(status)
                | {"state": "interrupted", "sentence": "It was stopped. Apply goes on where it stopped."}
            )
        return status

    def write_status(self, status: Status) -> None:
        """Say how far the job is."""
        write_json(self.folder / "status.json", asdict(status) | {"updated": now()})

    def log_tail(self, lines: int = 12) -> list[str]:
        """The last lines of what the job said."""
        if not self.log.exists():
            return []
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]


def start_job(state: Path, run: Path, who: str, more: Sequence[str] = ()) -> int:
    """Start the command ``apply`` as a process of its own, which outlives this one.

    Args:
        state: folder of the service.
        run: the run folder.
        who: the person.
        more: further arguments of the command.

    Returns:
        Its process id.

    Raises:
        UsageError: one runs already.
    """
    files = ApplyFolder(state)
    files.folder.mkdir(parents=True, exist_ok=True)
    if files.is_alive():
        raise UsageError("apply: a job is running already. Wait until it has ended.")
    root = Path(__file__).parents[1]
    command = [sys.executable, str(root / "cli.py"), "apply", str(state.absolute()), str(run.absolute())]
    with files.log.open("wb") as log:
        job = subprocess.Popen(
            # Behind "--" a name that begins with a dash would be an argument; as one word it is the option's.
            [*command, f"--who={who}", *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd=os.getcwd(),  # noqa: PTH109 - a run may name its data set relative to it
            env=os.environ | {"PYTHONPATH": str(root)},
            start_new_session=True,
        )
    return job.pid
