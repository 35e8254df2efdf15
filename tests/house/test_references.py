"""What docstrings and pages point to exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.references import FILE_SUFFIXES, exists, exists_in, is_ours, stale_references
from tests.house.source import ROOT, modules, place, rooms

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: What CONTRIBUTING tells its reader to write.
TO_BE_WRITTEN = {"oneclass/mean_distance.py", "oneclass.mean_distance"}
IN_BACKTICKS = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def test_references_of_docstrings():
    stale = [
        f"{place(module, line)}: {target}"
        for module in modules()
        for line, target in stale_references(module)
    ]
    assert not stale, "\n".join(stale)


@pytest.mark.parametrize(
    ("dotted", "expected"),
    [
        ("contracts.member", True),
        ("contracts.member.Member", True),
        ("contracts.member.Member.fit", True),
        ("contracts.member.Member.fitt", False),
        ("contracts.member.Membre", False),
        ("contracts.membre.Member", False),
        ("workflow", True),
    ],
)
def test_existence_is_told_apart(dotted, expected):
    assert is_ours(dotted)
    assert exists(dotted) is expected


def test_an_imported_name_is_followed_to_its_definition():
    # The protocol's names are found where they are imported, too.
    assert exists_in("cli", ["Annotated"]) is False  # typing's, not ours
    assert exists("contracts.member.FitContext") is True


def _missing(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    folders = {*rooms(), "tests", "docs", "requirements"}
    missing = []
    for match in IN_BACKTICKS.finditer(text):
        token = match[1].strip().split("::")[0]
        if token in TO_BE_WRITTEN:
            continue
        if re.fullmatch(r"[\w./*-]+", token) and token.split("/")[0] in folders and "/" in token:
            # Modules may be named without their suffix.
            found = any(ROOT.glob(token.rstrip("/"))) or any(ROOT.glob(f"{token}.py"))
        elif (
            re.fullmatch(r"\w+(\.\w+)+", token)
            and is_ours(token)
            and token.split(".")[-1] not in FILE_SUFFIXES
        ):
            found = token == "cli.py" or exists(token)
        else:
            continue
        if not found:
            missing.append(token)
    for match in LINK.finditer(text):
        if not (page.parent / match[1]).exists():
            missing.append(match[1])
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_references_of_pages(page):
    assert not _missing(page)


def test_a_page_that_points_to_nothing_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "`workflow/nowhere.py`, `contracts.member.Nobody`, [a](gone.md), `export.json`, `contracts/`"
    )
    assert _missing(page) == ["workflow/nowhere.py", "contracts.member.Nobody", "gone.md"]
