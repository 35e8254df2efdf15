"""The errors a user may see, each with the exit code it ends the command with.

Every message follows one form: *what* is wrong, *where*, what we *got*, and what to *do*.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; scripts may rely on them."""

    OK = 0
    USAGE = 2
    DATA = 3
    SOME_IMAGES_FAILED = 4
    MODEL = 5
    INTERRUPTED = 130


class OutnumberedError(Exception):
    """A mistake or an obstacle that a person can act on; shown as one sentence, never as a traceback."""

    exit_code: ExitCode = ExitCode.MODEL


class UsageError(OutnumberedError):
    """The command line, a spec or a recipe asks for something that does not exist or cannot be."""

    exit_code = ExitCode.USAGE


class DataError(OutnumberedError):
    """The images, lists or folders do not allow what was asked."""

    exit_code = ExitCode.DATA


class ImageError(DataError):
    """One image cannot be used; batches record the reason and go on.

    Attributes:
        rule: short name of what is wrong: ``unreadable``, ``empty``, ``not_an_image``, ``bomb``,
            ``too_small``, ``truncated``, ``region`` (of another shape than the mask of the region of
            interest), or ``broken`` for whatever else a decoder refuses.
    """

    def __init__(self, message: str, rule: str = "broken") -> None:
        super().__init__(message)
        self.rule = rule


class ModelError(OutnumberedError):
    """A model, a member or an exported file is missing, wrong or fails its gate."""

    exit_code = ExitCode.MODEL


class MemberCollapsedError(ModelError):
    """A fitted member no longer tells images apart (see :mod:`oneclass.collapse`)."""


class NotExportableError(ModelError):
    """The ensemble is fitted and measured, but a member of it has no form that an exported file can hold."""


def nearest_match(word: str, candidates: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest candidate, or ``""`` when none is close.

    Args:
        word: what the user wrote.
        candidates: what would have been accepted.
    """
    close = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
