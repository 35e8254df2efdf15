"""What a run can and cannot do with the labels it has, in sentences."""

from __future__ import annotations

from imagedata.sampling import INDEPENDENT_FOR_A_TEST
from workflow.run.prepared import PreparedData
from workflow.settings.config import RunConfig
from workflow.settings.registry import entry_of


def regime_sentences(config: RunConfig, data: PreparedData) -> list[str]:
    """What follows from the labels for training and for measuring; empty for a run with a test set."""
    normal, minority = data.manifest.class_names[0], data.manifest.class_names[-1]
    total = len(data.train)
    if data.regime == "unlabelled":
        share = config.recipe.contamination
        return [
            f"None of {total} images is labelled. Most are taken to be normal; {share:.0%} of them, the most "
            f"anomalous ones, are left out of what members learn from (-o contamination={share:g}). Only "
            "one-class members are trained. The result is a ranking: which images to look at first.",
            _from_when(config),
        ]
    if data.regime == "normal_only":
        return [
            f"All {total} images are normal ({normal}), so only one-class members are trained.",
            _from_when(config),
        ]
    if data.test:
        return []
    n_minority = sum(row.label == minority for row in data.train)
    n_groups = len({row.group for row in data.train if row.label == minority})
    independent = "" if n_groups == n_minority else f" in {n_groups} groups"
    there_are = "there is 1 image" if n_minority == 1 else f"there are {n_minority} images"
    sentences = [
        f"No test set is held out: {there_are} of {minority}{independent}, and a test set "
        f"is worth its price from {INDEPENDENT_FOR_A_TEST} independent ones on. All of them train; "
        f"figures come from nested cross-validation, {_times(data.n_repeats)}. To hold out a test set: "
        "-o test_share=0.2."
    ]
    if n_groups == 1:
        sentences.append(
            "A single minority image cannot be left out of what supervised members learn from: they do not "
            "judge it, calibration figures are not cross-validated, and intervals of ranking figures have no "
            "upper end."
        )
        waiting = [plan.name for plan in config.members if entry_of(plan.type).least_labels > 1]
        if waiting:
            sentences.append(
                f"From the second independent image on, {', '.join(waiting)} is trained as well."
            )
    elif n_groups == 2:  # too low on real sets: docs/results/label-curve.md
        sentences.append(
            f"With two independent images of {minority} the models that judge a fold have learnt from one: "
            "figures are pessimistic, on some sets by far, and intervals of ranking figures have no upper "
            "end."
        )
    return sentences


def _from_when(config: RunConfig) -> str:
    command = config.options.command("update", "--missed", "FOLDER")
    return f"From the first labelled minority image on, supervised members are trained as well: {command}"


def _times(n_repeats: int) -> str:
    return "once" if n_repeats == 1 else f"repeated {n_repeats} times"
