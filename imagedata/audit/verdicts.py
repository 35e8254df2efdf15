"""From what a check found to a verdict on each point, worst first within its kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from imagedata.audit.duplicates import RELATIONS, DuplicateSet, Relation
from imagedata.audit.groups import GroupGuess
from imagedata.audit.result import Audit
from imagedata.audit.rules import RULES
from imagedata.audit.shortcuts import ALL_FACTS, SOURCE_FACTS, WARNING_AUROC
from imagedata.layouts.listed_image import ListedImage

Verdict = Literal["refused", "invalid", "warning", "note", "fine"]


@dataclass(frozen=True)
class Problem:
    """One line of the table.

    Attributes:
        name: for machines.
        title: for people.
        count: how many; None where nothing is counted.
        severity: ``refused`` (training would not start), ``invalid`` (results would claim more than is
            true), ``warning``, ``note`` (training takes care of it), ``fine``.
        sentence: what it means and what to do.
    """

    name: str
    title: str
    count: int | None
    severity: Verdict
    sentence: str


def problems_of(audit: Audit) -> list[Problem]:
    """Every point of the check with its verdict, points that are fine included."""
    return [
        *_of_training(audit),
        *_of_files(audit),
        *_of_exact(audit),
        *_of_near(audit),
        *_of_groups(audit),
        *_of_shortcuts(audit),
        *_of_imbalance(audit),
    ]


def _of_training(audit: Audit) -> Iterator[Problem]:
    if audit.training is None:
        yield Problem("training", "training", None, "refused", f"Training would stop: {audit.refused}")
        return
    status = audit.training
    left = ", ".join(f"{status.get(name, 0)} {name}" for name in ("broken", "excluded", "dropped"))
    yield Problem("training", "training", status.get("ok", 0), "fine", f"Usable images; {left}.")


def _of_files(audit: Audit) -> Iterator[Problem]:
    counts = Counter(finding.rule for finding in audit.findings)
    if not counts:
        yield Problem("files", "files", len(audit.facts), "fine", "All whole, and none of them odd.")
    for name, rule in RULES.items():
        if counts[name]:
            first = next(finding for finding in audit.findings if finding.rule == name)
            shown = f"{rule.meaning} First: {first.path}: {first.sentence}"
            yield Problem(name, rule.title, counts[name], rule.severity, shown)


def number_of(count: int, unit: str) -> str:
    """``1 set``, ``2 sets``."""
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"


def _title(kind: str, relation: Relation) -> str:
    return f"{kind} copies {relation}"


def _of_exact(audit: Audit) -> Iterator[Problem]:
    """Equal files: training drops its own; what the test set contradicts, nothing can mend."""
    duplicates, images = audit.duplicates, audit.images
    for relation in RELATIONS:
        sets = duplicates.of("exact", relation)
        title = _title("exact", relation)
        name = f"exact_{relation.replace(' ', '_')}"
        if relation == "across groups" and audit.spec.group is None:
            yield Problem(name, title, None, "note", "No group rule, so nothing to cross.")
            continue
        if not sets:
            yield Problem(name, title, 0, "fine", "None.")
            continue
        n_files = sum(len(each.members) for each in sets)
        told = f"{n_files} files in {number_of(len(sets), 'set')}"
        text = f"{told}; training keeps the first and no test file's copy."
        verdict: Verdict = "note"
        if relation == "across splits":
            text = f"{told}; they leave training and stay held out."
        if relation == "across labels":
            text = f"{told}; those in training leave it."
            held_out = [each for each in sets if _labels_held_out(each, audit) > 1]
            if held_out:
                verdict = "invalid"
                text += (
                    f" {len(held_out)} of the sets carry two labels in the test set, so no model can "
                    "be right on them: mend the labels."
                )
            else:
                verdict = "warning"
        yield Problem(name, title, len(sets), verdict, f"{text} First: {_first(sets[0], images)}.")


def _labels_held_out(each: DuplicateSet, audit: Audit) -> int:
    return len({audit.images[i].label for i in each.members if audit.images[i].split == "test"})


def _first(each: DuplicateSet, images: list[ListedImage]) -> str:
    return " = ".join(images[i].path for i in each.members[:3])


def _of_near(audit: Audit) -> Iterator[Problem]:
    """Near copies: training knows of them only by the file that a check writes."""
    duplicates, spec = audit.duplicates, audit.spec
    known = spec.near_duplicates is not None
    if duplicates.is_strict:
        yield Problem(
            "near_strict",
            "near copies",
            None,
            "note",
            "The images are alike by nature or tiny, so that only nearly identical ones are called copies.",
        )
    if not duplicates.is_complete:
        yield Problem(
            "near_incomplete",
            "near copies",
            len(duplicates.near),
            "warning",
            "There are so many that the search was cut short; the images may be frames of a film.",
        )
    for relation in RELATIONS:
        sets = duplicates.of("perceptual", relation)
        title = _title("near", relation)
        name = f"near_{relation.replace(' ', '_')}"
        if relation == "across groups" and spec.group is None:
            yield Problem(name, title, None, "note", "No group rule, so nothing to cross.")
            continue
        if not sets:
            yield Problem(name, title, 0, "fine", "None.")
            continue
        n_files = sum(len(each.members) for each in sets)
        text = f"{n_files} files in {number_of(len(sets), 'set')}."
        text += f" First: {_first(sets[0], audit.images)}."
        if known:
            text += f" Taken into account through {spec.near_duplicates}."
            yield Problem(name, title, len(sets), "note", text)
            continue
        # Within a class they leak only where folds or a drawn test set part them; a split that the
        # set brings is crossed by the sets of the next line.
        draws = not any(image.split == "test" for image in audit.images)
        grave = relation != "within a class" or draws
        advice = f" Take them into account with -o near_duplicates={audit.near_file}."
        yield Problem(name, title, len(sets), "invalid" if grave else "warning", text + advice)


def _of_groups(audit: Audit) -> Iterator[Problem]:
    rule, guesses = audit.spec.group, audit.guesses
    if rule is not None and not guesses:
        yield Problem("groups", "groups", None, "fine", f"The spec keeps groups together by {rule}.")
    elif rule is not None:
        yield Problem(
            "groups", "groups", guesses[0].n_groups, "fine", f"Confirmed for this check: {_told(guesses[0])}"
        )
    elif audit.groups_denied:
        yield Problem("groups", "groups", None, "fine", "You say that there are none.")
    elif not guesses:
        yield Problem("groups", "groups", 0, "fine", "Neither folders nor names tell patients or lots.")
    else:
        for guess in guesses:
            yield Problem(
                "groups",
                "guessed groups",
                guess.n_groups,
                "invalid",
                f"{_told(guess)} Random folds would part them: say --confirm-groups or --deny-groups.",
            )


def _told(guess: GroupGuess) -> str:
    example, files = next(iter(guess.examples.items()))
    crossing = "".join(
        f" {count} of them lie across {side}." for side, count in guess.crossing.items() if count
    )
    return (
        f"By {guess.kind}, {guess.n_files} files share {guess.n_shared} groups, the largest {guess.largest} "
        f"({example}: {', '.join(files[:2])}).{crossing}"
    )


def _of_shortcuts(audit: Audit) -> Iterator[Problem]:
    minority = audit.spec.minority
    if audit.not_measured:
        yield Problem("shortcuts", "shortcuts", None, "note", f"Not measured: {audit.not_measured}")
        return
    for each in audit.shortcuts:
        if not each.is_warning:
            continue
        name = f"shortcut_{each.fact.replace(' ', '_')}"
        low, high = each.interval
        told = f"{each.fact} alone" if each.fact != ALL_FACTS else "size, compression, colour and source"
        text = f"{minority} is told by {told} with AUROC {each.auroc:.2f} [{low:.2f}, {high:.2f}]"
        text += f": {each.shown}." if each.shown else "."
        if each.fact in SOURCE_FACTS:
            text += " Sources, not lungs: a model may learn where files come from."
            yield Problem(name, f"shortcut: {each.fact}", None, "invalid", text)
        else:
            text += " It may be of the subject itself, or of where pictures come from."
            yield Problem(name, f"shortcut: {each.fact}", None, "warning", text)
    if not any(each.is_warning for each in audit.shortcuts):
        best = max(audit.shortcuts, key=lambda each: each.auroc)
        text = f"No fact tells {minority} with AUROC above {WARNING_AUROC}; nearest: {best.fact}, "
        yield Problem("shortcuts", "shortcuts", 0, "fine", f"{text}{best.auroc:.2f}.")


def problems_of_leak(leak: dict[str, Any] | None) -> Iterator[Problem]:
    """What ``--show-leak`` measured, a line a head."""
    if leak is None:
        return
    if "refused" in leak:
        yield Problem("leak", "leak", None, "note", f"Not measured: {leak['refused']}")
        return
    for each in leak["members"]:
        low, high = each["interval"]
        yield Problem(
            f"leak_{each['member']}",
            f"leak: {each['member']}",
            None,
            "warning" if low > 0 else "note",
            f"AUROC {each['random']:.3f} with random folds, {each['grouped']:.3f} with grouped ones: "
            f"random folds add {each['inflation']:+.3f} [{low:+.3f}, {high:+.3f}].",
        )


def _of_imbalance(audit: Audit) -> Iterator[Problem]:
    facts = audit.imbalance
    ratio = "no images of it" if facts["ratio"] is None else f"1:{facts['ratio']:.3g}"
    counts = ", ".join(f"{name} {count}" for name, count in facts["train"].items())
    held_out = ", ".join(f"{name} {count}" for name, count in facts["test"].items())
    held_out = f"; held out {held_out}" if any(facts["test"].values()) else ""
    text = f"{ratio} in training ({counts}){held_out}."
    yield Problem("imbalance", "imbalance", facts["positives"], "fine", text)
    for each in facts["support"]:
        verdict: Verdict = "warning" if each["is_short"] else "fine"
        yield Problem(f"imbalance_{each['name']}", each["name"], None, verdict, each["sentence"])
