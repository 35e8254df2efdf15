"""Names that would move the cursor, end a line or turn writing round are shown as codes."""

import pytest

from contracts.text import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name-1.png", "plain name-1.png"),
        ("Größe – 写真.png", "Größe – 写真.png"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb\rc\td\x00", "a\\nb\\rc\\td\\x00"),
        ("\u202egnp\u200b", "\\u202egnp\\u200b"),
        ("half\udc80", "half\\udc80"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_what_cannot_be_seen_is_shown(text, shown):
    assert printable(text) == shown
    printable(text).encode()


def test_lines_of_a_message_stay():
    assert printable_lines("a\x1b\nb") == "a\\x1b\nb"
