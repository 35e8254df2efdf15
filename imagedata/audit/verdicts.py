"""From what a check found to a verdict on each point, worst first within its kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from contracts.text import number_of
from imagedata.audit.duplicates import RELATIONS, DuplicateSet, Relation
from imagedata.audit.groups import GroupGuess
from imagedata.audit.result import Audit
from imagedata.audit.rules import RULES
from imagedata.audit.shortcuts import ALL_FACTS, WARNING_AUROC
from imagedata.layouts.listed_image import ListedImage

_PLURAL = {ALL_FACTS, "dimensions", "corner pixels", "file names"}  # facts that take the plural of a verb

Verdict = Literal["refused", "invalid", "warning", "note", "fine"]
Outcome = Literal["invalid", "look at this", "fine"]
OUTCOMES: tuple[Outcome, ...] = ("invalid", "look at this", "fine")
"""What a check can end with, the worst first; only the first one is an error to a script."""

_OUTCOME_OF: dict[Verdict, Outcome] = {
    "refused": "invalid",
    "invalid": "invalid",
    "warning": "look at this",
    "note": "fine",
    "fine": "fine",
}


@dataclass(frozen=True)
class Problem:
    """One line of the table.

    Attributes:
        name: for machines.
        title: for people.
        count: how many; None where nothing is counted.
        severity: ``refused`` (training would not start), ``invalid`` (proven leakage or a contradiction),
            ``warning`` (a question to the user), ``note`` (training takes care of it), ``fine``.
        sentence: what it means and what to do.
    """

    name: str
    title: str
    count: int | None
    severity: Verdict
    sentence: str

    @property
    def outcome(self) -> Outcome:
        """Which of the three outcomes this point alone would give."""
        return _OUTCOME_OF[self.severity]


def problems_of(audit: Audit) -> list[Problem]:
    """Every point of the check with its verdict, points that are fine included."""
    return [problem for point in POINTS for problem in point(audit)]


def worst_first(problems: Sequence[Problem]) -> list[Problem]:
    """The same points by outcome; within one they keep their order."""
    return sorted(problems, key=lambda problem: OUTCOMES.index(problem.outcome))


def outcome_of(problems: Sequence[Problem]) -> Outcome:
    """The outcome of a check: that of its worst point."""
    return min((problem.outcome for problem in problems), key=OUTCOMES.index, default="fine")


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
        yield Problem("files", "files", len(audit.facts), "fine", "All complete, none of them unusual.")
    for name, rule in RULES.items():
        if counts[name]:
            first = next(finding for finding in audit.findings if finding.rule == name)
            shown = f"{rule.meaning} First: {first.path}: {first.sentence}"
            yield Problem(name, rule.title, counts[name], rule.severity, shown)


def _title(kind: str, relation: Relation) -> str:
    return f"{kind} copies {relation}"


def _of_exact(audit: Audit) -> Iterator[Problem]:
    """Equal files: training drops its own; a contradiction within the test set must be fixed by hand."""
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
        counted = f"{n_files} files in {number_of(len(sets), 'set')}"
        text = f"{counted}; training keeps the first and no copy of a test file."
        verdict: Verdict = "note"
        if relation == "across splits":
            text = f"{counted}; they leave training and stay in the test set."
        if relation == "across labels":
            text = f"{counted}; those in training are excluded."
            contradicting = [each for each in sets if _test_labels(each, audit) > 1]
            if contradicting:
                verdict = "invalid"
                text += (
                    f" {len(contradicting)} of the sets carry two labels in the test set, so no model can "
                    "be right on them: fix the labels."
                )
            else:
                verdict = "warning"
        yield Problem(name, title, len(sets), verdict, f"{text} First: {_first(sets[0], images)}.")


def _test_labels(each: DuplicateSet, audit: Audit) -> int:
    return len({audit.images[i].label for i in each.members if audit.images[i].split == "test"})


def _first(each: DuplicateSet, images: list[ListedImage]) -> str:
    return " = ".join(images[i].path for i in each.members[:3])


def _of_near(audit: Audit) -> Iterator[Problem]:
    """Near copies: training knows of them only by the file that a check writes."""
    duplicates, spec = audit.duplicates, audit.spec
    if not duplicates.is_complete:
        yield Problem(
            "near_incomplete",
            "near copies",
            len(duplicates.near),
            "warning",
            "There are so many similar pictures that the search was cut short; they may be frames of a film.",
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
        text = f"{n_files} files in {number_of(len(sets), 'set')} show one exposure each."
        text += f" First: {_first(sets[0], audit.images)}."
        if spec.near_duplicates is not None:
            text += f" Training takes {spec.near_duplicates} into account."
            yield Problem(name, title, len(sets), "note", text)
            continue
        # Within a class nothing is crossed yet: only folds or a test set still to be drawn can part them.
        is_proof = relation != "within a class"
        keep = "Exclude or group them" if is_proof else "Keep them on one side of every split"
        text += f" {keep} with -o near_duplicates={audit.near_file}."
        yield Problem(name, title, len(sets), "invalid" if is_proof else "warning", text)


def _of_groups(audit: Audit) -> Iterator[Problem]:
    rule, guesses = audit.spec.group, audit.guesses
    if rule is not None and not guesses:
        yield Problem("groups", "groups", None, "fine", f"The spec keeps groups together by {rule}.")
    elif rule is not None:
        yield Problem(
            "groups",
            "groups",
            guesses[0].n_groups,
            "fine",
            f"Confirmed for this check: {_described(guesses[0])}",
        )
    elif audit.groups_denied:
        yield Problem("groups", "groups", None, "fine", "You stated that there are none.")
    elif not guesses:
        yield Problem("groups", "groups", 0, "fine", "Neither folders nor names indicate patients or lots.")
    else:
        for guess in guesses:
            yield Problem(
                "groups",
                "guessed groups",
                guess.n_groups,
                "warning",
                f"{_described(guess)} Are these patients, lots or scenes? If so, random folds would part "
                "them: answer with --confirm-groups. If not, with --deny-groups.",
            )


def _described(guess: GroupGuess) -> str:
    example, files = next(iter(guess.examples.items()))
    crossing = "".join(f" {count} of them cross {side}." for side, count in guess.crossing.items() if count)
    return (
        f"By {guess.kind}, {guess.n_files} files share {guess.n_shared} groups, the largest {guess.largest} "
        f"({example}: {', '.join(files[:2])}).{crossing}"
    )


def _of_shortcuts(audit: Audit) -> Iterator[Problem]:
    minority = audit.spec.minority
    if not audit.imbalance["positives"] and not audit.imbalance["test"][minority]:
        yield Problem(
            "shortcuts",
            "shortcuts",
            None,
            "note",
            f"Not measured: they are properties that tell {minority} from the rest, and there is none of it.",
        )
        return
    if audit.not_measured:
        yield Problem("shortcuts", "shortcuts", None, "note", f"Not measured: {audit.not_measured}")
        return
    for each in audit.shortcuts:
        if not each.is_warning:
            continue
        name = f"shortcut_{each.fact.replace(' ', '_')}"
        low, high = each.interval
        fact, verb = each.fact.removeprefix("all "), "predict" if each.fact in _PLURAL else "predicts"
        text = f"{fact} {verb} {minority} with AUROC {each.auroc:.2f} [{low:.2f}, {high:.2f}]"
        text += f": {each.shown}." if each.shown else "."
        if each.severity == "invalid":
            share = "" if each.auroc > WARNING_AUROC else " for part of the files"
            text = (
                f"The label can be predicted from file properties alone{share}: {text} The classes come from "
                "different sources, and a model can learn the source instead of the subject."
            )
        elif each.fact in {"source folder", "file names"}:
            text = f"{text} The classes may come from different sources; compare how they were collected."
        else:
            text = f"{text} It may be the subject itself, or the place where pictures were taken."
        yield Problem(name, f"shortcut: {each.fact}", None, each.severity, text[0].upper() + text[1:])
    if not any(each.is_warning for each in audit.shortcuts):
        best = max(audit.shortcuts, key=lambda each: each.auroc)
        text = f"No property predicts {minority} with AUROC above {WARNING_AUROC}; nearest: {best.fact}, "
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
    minority = audit.spec.minority
    ratio = f"no images of {minority}" if facts["ratio"] is None else f"1:{facts['ratio']:.3g}"
    counts = ", ".join(f"{name} {count}" for name, count in facts["train"].items())
    test = ", ".join(f"{name} {count}" for name, count in facts["test"].items())
    test = f"; test set: {test}" if any(facts["test"].values()) else ""
    text = f"{ratio[0].upper()}{ratio[1:]} in training ({counts}){test}."
    yield Problem("imbalance", "imbalance", facts["positives"], "fine", text)
    for each in facts["support"]:
        verdict: Verdict = "warning" if each["is_short"] else "fine"
        yield Problem(f"imbalance_{each['name']}", each["name"], None, verdict, each["sentence"])


Point = Callable[[Audit], Iterator[Problem]]

POINTS: tuple[Point, ...] = (
    _of_training,
    _of_files,
    _of_exact,
    _of_near,
    _of_groups,
    _of_shortcuts,
    _of_imbalance,
)
"""What a check judges. A new point is a function of the audit and one line here."""
