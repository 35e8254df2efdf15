"""Pictures for the page of a check: a few of everything that was found."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.text import number_of, printable
from imagedata.audit.duplicates import RELATIONS
from imagedata.audit.result import Audit
from imagedata.audit.rules import RULES
from imagedata.audit.thumbnails import thumbnail_jpeg
from reporting.check_page import CheckPicture, CheckSection

_FILES_SHOWN = 12
_SETS_SHOWN = 8
_OF_A_SET = 4


def sections_of(audit: Audit) -> list[CheckSection]:
    """Sections with pictures, copies first: what a person should look at with their own eyes."""
    album = _Album(audit)
    return [*_duplicates(audit, album), *_files(audit, album), *_groups(audit, album)]


class _Album:
    """Thumbnails by place; files that could not be read are not opened again."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._place = {image.path: place for place, image in enumerate(audit.images)}

    def picture(self, path: str, caption: str) -> CheckPicture:
        place = self._place[path]
        audit = self._audit
        jpeg = None
        if audit.facts.is_usable[place]:
            jpeg = thumbnail_jpeg(audit.root / path, audit.spec.window)
        return CheckPicture(printable(path), printable(caption), jpeg)


def _duplicates(audit: Audit, album: _Album) -> list[CheckSection]:
    sections = []
    for kind, title in (("exact", "Equal files"), ("perceptual", "Near copies")):
        for relation in reversed(RELATIONS):
            sets = audit.duplicates.of(kind, relation)  # type: ignore[arg-type]
            if not sets:
                continue
            shown = [
                [
                    album.picture(audit.images[i].path, f"{audit.images[i].label}, {_split(audit, i)}")
                    for i in _telling(audit, each.members)
                ]
                for each in sets[:_SETS_SHOWN]
            ]
            n_files = sum(len(each.members) for each in sets)
            sections.append(
                CheckSection(
                    f"{title} {relation}",
                    f"{number_of(len(sets), 'set')} of {n_files:,} files. "
                    "Pictures in one frame show one exposure.",
                    shown,
                    max(0, len(sets) - _SETS_SHOWN),
                    "sets",
                )
            )
    return sections


def _telling(audit: Audit, members: Sequence[int]) -> list[int]:
    """A few files of a set, of as many labels and splits as there are."""
    first_of: dict[tuple[str, str], int] = {}
    for i in members:
        first_of.setdefault((audit.images[i].label, audit.images[i].split), i)
    chosen = [*first_of.values(), *(i for i in members if i not in first_of.values())]
    return chosen[:_OF_A_SET]


def _split(audit: Audit, place: int) -> str:
    return "test set" if audit.images[place].split == "test" else "training"


def _files(audit: Audit, album: _Album) -> list[CheckSection]:
    sections = []
    for name, rule in RULES.items():
        mine = [finding for finding in audit.findings if finding.rule == name]
        if mine:
            shown = [[album.picture(each.path, each.sentence)] for each in mine[:_FILES_SHOWN]]
            more = max(0, len(mine) - _FILES_SHOWN)
            sections.append(
                CheckSection(
                    rule.title, f"{number_of(len(mine), 'file')}. {rule.meaning}", shown, more, "files"
                )
            )
    return sections


def _groups(audit: Audit, album: _Album) -> list[CheckSection]:
    sections = []
    for guess in audit.guesses:
        shown = [
            [album.picture(path, f"group {group}") for path in files]
            for group, files in guess.examples.items()
        ]
        sentence = (
            f"By {guess.kind}: {guess.n_groups} groups, {guess.n_shared} of them of two files and more. "
            "Pictures in one frame are one group. The rule: "
        )
        sections.append(
            CheckSection(
                "Guessed groups", sentence, shown, max(0, guess.n_shared - len(shown)), "groups", guess.rule
            )
        )
    return sections
