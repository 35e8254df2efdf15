"""Text for people: names of hostile origin made safe to show, and counts with their noun."""

from __future__ import annotations

import unicodedata

# Marks that letters are made with may stay; what controls a terminal or the direction of writing may not.
_SHOWN_AS_CODE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str) -> str:
    r"""Show what cannot be seen as its code: a name may hold escape sequences, line ends or reversed writing.

    Args:
        text: any text, such as a file name; halves of a surrogate pair included.

    Returns:
        The same with every control, format and unassigned character as ``\x1b``, ``\u202e`` and so on;
        it can be printed to a terminal, encoded as UTF-8 and stays on one line.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode("ascii")
        if unicodedata.category(letter) in _SHOWN_AS_CODE
        else letter
        for letter in text
    )


def printable_lines(text: str) -> str:
    """The same for a message of several lines, whose line ends stay."""
    return "\n".join(map(printable, text.split("\n")))


def number_of(count: int, unit: str) -> str:
    """``1 set``, ``2 sets``."""
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"
