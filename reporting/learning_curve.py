"""What more labels would buy: the sentence, and the learning curve's figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.learning_curve import FIGURES
from evaluation.metrics import METRICS
from reporting import figures
from reporting.drawing import Drawing
from reporting.pictures import svg_uri
from reporting.wording import capitalised, listed


def more_labels(curve: Mapping[str, Any]) -> str:
    """What the additional labels would buy, in plain words; never more than the curve shows.

    Args:
        curve: a document of :func:`workflow.comparing.learning_curve.learning_curve` with at least two sizes.
    """
    # In this order, whatever order a file has them in.
    continued: dict[str, Mapping[str, Any]] = {name: curve["next"][name] for name in FIGURES}
    rising = [name for name, each in continued.items() if each["trend"] == "rises"]
    first, last = curve["sizes"][0]["images"], curve["sizes"][-1]["images"]
    of_what = f"{curve['more']} more labelled images of “{curve['minority']}”"
    others = [_without_trend(name, each) for name, each in continued.items() if name not in rising]
    if rising:
        rises = listed([_rise(name, continued[name], number == 0) for number, name in enumerate(rising)])
        sentences = [
            f"With {of_what} ({last:.0f} → {last + curve['more']:.0f}), {'; '.join([rises, *others])}."
        ]
        if any(continued[name]["low"] <= continued[name]["now"] for name in rising):
            sentences.append("The interval does not exclude that they buy nothing.")
    elif all(each["trend"] == "ceiling" for each in continued.values()):
        sentences = [f"{of_what} can buy next to nothing here: {listed(others)}."]
    else:
        sentences = [
            f"What {of_what} would buy cannot be told: over {first:.0f} to {last:.0f} of them, "
            f"{listed(others)}."
        ]
    if curve["left_out"]:
        reasons = "; ".join(f"{name} {reason}" for name, reason in curve["left_out"].items())
        sentences.append(f"Measured without members that take long to refit: {reasons}.")
    return " ".join(sentences)


def _rise(name: str, found: Mapping[str, Any], with_verb: bool) -> str:
    verb = " would rise" if with_verb else ""
    return (
        f"{_title(name)}{verb} from {found['now']:.3f} to about {found['then']:.3f} "
        f"(95 % interval {found['low']:.3f} to {found['high']:.3f})"
    )


def _without_trend(name: str, found: Mapping[str, Any]) -> str:
    if found["trend"] == "ceiling":
        return f"{_title(name)} is {found['now']:.3f} already"
    if found["trend"] == "falls":
        return f"{_title(name)} fell as labels were added, to {found['now']:.3f}"
    return f"{_title(name)} shows no trend beyond chance (now {found['now']:.3f})"


def learning_curves(curve: Mapping[str, Any]) -> list[Drawing]:
    """A figure for each measure, with the expected continuation."""
    drawings = []
    for name in FIGURES if curve["sizes"] else ():
        found = curve["next"][name]
        title = capitalised(_title(name))
        told = ", ".join(f"{size['images']:.0f}: {size[name]['mean']:.3f}" for size in curve["sizes"])
        drawings.append(
            Drawing(
                f"{title} over labelled images",
                svg_uri(figures.learning_curve(curve["sizes"], name, found, curve["more"])),
                f"{title} by number of labelled minority images. {told}.",
                "Each dot is one draw of the labelled images; bars are where a further draw would lie "
                f"(95 %). The hollow dot is the continuation by {curve['more']} images, with its interval.",
            )
        )
    return drawings


def _title(name: str) -> str:
    return METRICS[name].title
