"""The field's words, one spelling each: the project's former words have gone."""

from __future__ import annotations

import re

import pytest

from tests.house.source import ROOT, modules, tracked

#: Pattern → what is said instead. A letter stands in brackets where this file must not hold the word itself.
FORMER = {
    "tru[n]k": "backbone",
    "recei[p]t": "cached result",
    "null[ _-]contro[l]": "calibrated baseline",
    r"\bhel[d]out\b": "test",
    "disho[n]est": "invalid",
    r"\bhee[d](s|ed|ing)?\b": "exclude, take into account",
    r"\bane[w]\b": "again",
    r"\bspar[e]d\b": "true negatives",
    r"\ba ro[w] (an|a) \w+": "one row per image",
    r"\ba colum[n] (an|a) \w+": "one column per member",
    r"\bimages a cal[l]\b": "batch size",
    r"\bms an imag[e]\b": "ms per image",
    r"\b(milliseconds|images|cells) an? (imag[e]|secon[d]|sid[e])\b": "per image, per second, per side",
    r"\bone (row|column|line|figure) an? (image|class|member|mode[l]|file|repeat)\b": "one per image",
    "ACS[A]": "balanced accuracy (mean class recall)",
    r"\bhones[t](ly)?\b": "valid, fair",
    r"\bme[n]d(s|ed|ing)?\b": "fix, repair",
    r"\bguilt[y]\b": "failing",
    r"\bdea[r](er|est)?\b": "costly",
    r"\bodd[e]r\b": "anomalous",
    r"\bheld[ -]ou[t] (row|image|split|set)s?\b": "test rows, images or set",
    "outnumbered clas[s]": "minority class",
    "sources, no[t] lungs": "the label can be predicted from file properties alone",
    r"\bnothing is to d[o]\b": "nothing to do",
}
#: What is history; stored pages of results are kept as the version that made them wrote them.
HISTORY = ("CHANGELOG.md", "docs/decisions/")
STORED_PAGES = re.compile(r"docs/results/.*\.html")
TEXT = {".css", ".html", ".js", ".jinja", ".md", ".py", ".svg", ".toml", ".yaml", ".yml", ""}


def _texts():
    product = set(modules().values())
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if path.suffix not in TEXT or name.startswith(HISTORY) or STORED_PAGES.match(name):
            continue
        if path in product or not name.startswith("tests/"):
            text = path.read_text(encoding="utf-8").replace("<wbr>", "")
            yield name, re.sub(r"data:[\w/+-]+;base64,[\w+/=]+", "", text)


@pytest.mark.parametrize(("former", "now"), FORMER.items(), ids=FORMER.values())
def test_former_words_are_gone(former, now):
    pattern = re.compile(former, re.IGNORECASE)
    found = [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in _texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"say {now!r}:\n" + "\n".join(found)
