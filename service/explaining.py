"""Explanations by the run, one at a time in a child process: nearest normal patches, and where they are.

The service itself needs no run and no torch. Where it is given one, the command hands in a picklable function
that opens the run in the child; the child ends when nobody has asked for a while, and its memory with it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.worker_process import Done, Failed, Ready, Work, Worker

Prepare = Callable[[], Work[Path, dict[str, Any]]]
"""Opens the run in the child. What it returns is handed an image's path, and gives the path of a PNG as
``picture`` and what is to be said of it as ``sentences``."""

_IDLE_S = 300.0
_PATIENCE_S = 600.0


@dataclass(frozen=True)
class Explanation:
    """How far an explanation is.

    Attributes:
        state: ``waiting``, ``done`` or ``failed``.
        picture: the PNG, once it is done.
        sentences: what it shows, or why it failed.
    """

    state: str
    picture: Path | None = None
    sentences: tuple[str, ...] = ()


class Explainer:
    """See the module's docstring.

    Args:
        prepare: opens the run; None where the service has none.
    """

    def __init__(self, prepare: Prepare | None) -> None:
        self._prepare = prepare
        self._queue: queue.Queue[tuple[str, Path]] = queue.Queue(100)
        self._known: dict[str, Explanation] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def is_there(self) -> bool:
        """Whether there is a run to explain by."""
        return self._prepare is not None

    def start(self) -> None:
        """Wait for questions; no process is started before the first."""
        if self.is_there:
            self._thread.start()

    def stop(self) -> None:
        """End the child."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def ask(self, image: str, file: Path) -> Explanation:
        """Ask for an image's explanation, or how far it is.

        Args:
            image: digest.
            file: where its bytes lie.
        """
        found = self._known.get(image)
        if found is None:
            try:
                self._queue.put_nowait((image, file))
            except queue.Full:
                return Explanation("failed", sentences=("100 explanations wait already. Ask again later.",))
            found = self._known[image] = Explanation("waiting")
        return found

    def known(self, image: str) -> Explanation | None:
        """How far it is, without asking for it."""
        return self._known.get(image)

    def _run(self) -> None:
        child: Worker[Path] | None = None
        while not self._stopped.is_set():
            try:
                image, file = self._queue.get(timeout=1.0)
            except queue.Empty:
                if child is not None and time.monotonic() - child.last_sign > _IDLE_S:
                    child.end()
                    child = None
                continue
            child, self._known[image] = self._explained(child, file)
        if child is not None:
            child.end()

    def _explained(self, child: Worker[Path] | None, file: Path) -> tuple[Worker[Path] | None, Explanation]:
        if child is None:
            assert self._prepare is not None
            child = Worker(self._prepare)
            message = self._heard(child)
            if not isinstance(message, Ready):
                child.end()
                return None, _failed(message)
        child.give(file)
        message = self._heard(child)
        if isinstance(message, Done):
            found = message.result
            return child, Explanation("done", Path(found["picture"]), tuple(found["sentences"]))
        if message is None:
            child.end()
            child = None
        return child, _failed(message)

    def _heard(self, child: Worker[Path]) -> Any:
        """The child's next message; None where it died, took too long, or the service stops."""
        end = time.monotonic() + _PATIENCE_S
        try:
            while not self._stopped.is_set() and time.monotonic() < end:
                if child.pipe.poll(0.5):
                    child.last_sign = time.monotonic()
                    return child.pipe.recv()
        except (EOFError, OSError):
            pass
        return None


def _failed(message: Any) -> Explanation:
    if isinstance(message, Failed) and message.error is not None:
        return Explanation("failed", sentences=(str(message.error),))
    return Explanation(
        "failed", sentences=("The process that explains ended or took too long. Ask again later.",)
    )
