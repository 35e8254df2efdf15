"""What the user says of the labels on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.errors import UsageError, nearest_match

_LIKE_A_MINORITY = re.compile(
    r"(bad|ng|nok|n_?i_?o|ko|not?[ _-]?ok|fail(ed|ures?)?|reject(s|ed)?|sick|ill|positives?|faulty)"
    r"|.*(defe[ck]t|anomal|abnormal|scratch|crack|fault|damag|broken|contaminat|dent(s|ed)?$).*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Said:
    """What the user says of the labels; None and False where nothing is said.

    Attributes:
        minority: the minority class, in any capitals.
        normal: the class whose images are normal, in any capitals.
        unlabelled: nobody knows the labels, and none is to be used.
    """

    minority: str | None = None
    normal: str | None = None
    unlabelled: bool = False

    def require_no_contradiction(self) -> None:
        """Check that the options agree.

        Raises:
            UsageError: they do not.
        """
        if self.unlabelled and self.normal is not None:
            raise UsageError(
                f"--unlabelled says that no label is known, and --normal {self.normal} that all images of "
                "one class are normal. Give one of them."
            )
        if (
            self.normal is not None
            and self.minority is not None
            and self.normal.lower() == self.minority.lower()
        ):
            raise UsageError(f"--normal and --minority both name {self.normal}. Name one class with each.")

    def normal_among(self, classes: Sequence[str], where: str) -> str:
        """The normal class as it is spelt.

        Raises:
            UsageError: it is none of the classes.
        """
        name = spelt(str(self.normal), classes)
        if name not in classes:
            raise UsageError(
                f"{where}: --normal {self.normal} is none of the classes {', '.join(classes)}."
                f"{nearest_match(name, classes)}"
            )
        return name


def spelt(name: str, classes: Sequence[str]) -> str:
    """The class that a name means in other capitals, or the name itself where none or several fit."""
    alike = [each for each in classes if each.lower() == name.lower()]
    return alike[0] if name not in classes and len(alike) == 1 else name


def is_named_like_a_minority(name: str) -> bool:
    """Whether images of a class are hardly normal, by its name: ``bad``, ``ng``, ``scratches``."""
    return _LIKE_A_MINORITY.fullmatch(name) is not None
