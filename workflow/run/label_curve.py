"""What more labels would buy: the learning curve that ``report`` left in a run folder.

``check`` and the dry run say its sentence without computing anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contracts.errors import ModelError
from contracts.files import digest_of, read_json, write_json
from workflow.run.state import Run
from workflow.settings.config import RunConfig

# Raised when the way in which the curve is made changes.
_VERSION = 1


class CurveFile:
    """``learning_curve.json`` of a run: the finished document, or the figures made so far.

    Args:
        run: whose curve; labels, members, folds and settings are in its key.
    """

    def __init__(self, run: Run) -> None:
        self.path = _path_in(run.folder)
        self.key = digest_of([_VERSION, run.key])
        saved = _read(self.path)
        is_mine = saved.get("key") == self.key
        self._figures: dict[str, Any] = saved.get("figures", {}) if is_mine else {}
        self.document: dict[str, Any] | None = saved.get("document") if is_mine else None

    def figures(self, name: str) -> dict[str, Any] | None:
        """The figures of one subset if they are made."""
        return self._figures.get(name)

    def keep_figures(self, name: str, figures: dict[str, Any]) -> None:
        """Keep the figures of one subset, so that an interrupted command goes on after it."""
        self._figures[name] = figures
        write_json(self.path, {"key": self.key, "figures": self._figures})

    def keep(self, document: dict[str, Any]) -> None:
        """Keep the finished curve."""
        self.document = document
        write_json(self.path, {"key": self.key, "figures": self._figures, "document": document})


def kept_curve(config: RunConfig) -> dict[str, Any] | None:
    """The learning curve of the run that a configuration names; None where there is none of this run."""
    if not _path_in(config.folder).exists():
        return None
    try:
        return CurveFile(Run(config)).document
    except ModelError:
        # The folder holds another run: other images, labels or settings. Its curve says nothing of this one.
        return None


def _path_in(folder: Path) -> Path:
    return folder / "learning_curve.json"


def _read(path: Path) -> dict[str, Any]:
    """The file's content; empty where there is none or it is damaged, and then it is made again."""
    if not path.exists():
        return {}
    try:
        saved = read_json(path)
    except ValueError:
        return {}
    return saved if isinstance(saved, dict) else {}
