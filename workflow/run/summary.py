"""The facts about a run that people should see before training takes its time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from rich.markup import escape
from rich.table import Table

from contracts.errors import UsageError
from contracts.files import digest_of
from contracts.text import number_of, printable
from imagedata.audit.corrections import corrections_file
from imagedata.decoding.shape import shape_sentence
from imagedata.file_names import of_other_endings
from imagedata.views import MIRROR_SENTENCE
from reporting.terminal import console, note
from workflow.run.copies.views import learns_from_views
from workflow.run.prepared import PreparedData
from workflow.run.regime import regime_sentences
from workflow.settings.config import RunConfig

MOST_PRIOR_RATIO = 2.0
"""Class shares of test set and deployment that differ by a larger factor are pointed out."""


MOST_ASPECT_RATIO = 1.15
"""Sides of images that differ by a larger factor are pointed out."""


def data_facts(config: RunConfig, data: PreparedData) -> dict[str, Any]:
    """Counts per class and split, folds, priors, and what was left out and why."""
    manifest = data.manifest
    train, test = data.counts(), manifest.counts("test")
    minority = manifest.class_names[-1]
    is_minority = data.labels(data.train) == len(manifest.class_names) - 1
    is_labelled = data.regime == "labelled"
    corrections = corrections_used(config, data)
    return {
        "dataset": manifest.dataset,
        "root": str(manifest.root),
        "classes": list(manifest.class_names),
        "minority": minority,
        "train": train,
        "test": test,
        "status": manifest.status_counts(),
        "images_of_other_endings": images_of_other_endings(config),
        **({"augmented": len(data.augmented)} if data.augmented else {}),
        **({"views": len(data.views)} if data.views else {}),
        **corrected_labels(data),
        **({"corrections": corrections} if corrections else {}),
        "folds": config.recipe.folds,
        "minority_per_fold": [
            int(np.sum(is_minority & (data.fold_of_row == fold))) for fold in range(config.recipe.folds)
        ],
        "regime": data.regime,
        "fit": config.recipe.fit,
        **config.recipe.said_of_views_at_scoring,
        "roi": None if config.region is None else config.to_json()["dataset"]["roi"],
        "median_aspect": median_aspect(data),
        "repeats": data.n_repeats,
        "measured": data.measured if is_labelled else None,
        # Without an image of the minority nothing is known of its share.
        "trained_prior": train[minority] / sum(train.values()) if is_labelled else None,
        "deployment_prior": deployment_prior(config, data) if is_labelled else None,
    }


def corrected_labels(data: PreparedData) -> dict[str, dict[str, int]]:
    """Labels that people corrected, by split, among the rows that are used; empty where there are none."""
    counts = {
        split: sum(row.listed_label is not None for row in rows)
        for split, rows in (("train", data.own_train), ("test", data.test))
    }
    return {"corrected": counts} if any(counts.values()) else {}


def corrections_used(config: RunConfig, data: PreparedData) -> dict[str, Any]:
    """Corrected labels among the rows that are used, and which they are; empty where there are none.

    Returns:
        ``{train, test, list, digest}``: images of both splits, the name of the list's file, and a digest of
        the corrections that were used. The list itself may have grown since.
    """
    counts = corrected_labels(data)
    if not counts:
        return {}
    path = corrections_file(config.options.runs, config.spec.name, config.spec.corrections)
    used = [
        [row.sha256, row.listed_label, row.label]
        for row in [*data.own_train, *data.test]
        if row.listed_label is not None
    ]
    return {**counts["corrected"], "list": path.name, "digest": digest_of(sorted(used))}


def corrected_sentence(config: RunConfig, counts: Mapping[str, int]) -> str:
    """How many labels are corrected, and how to take that back."""
    path = corrections_file(config.options.runs, config.spec.name, config.spec.corrections)
    test = f" and of {number_of(counts['test'], 'test image')}" if counts["test"] else ""
    return (
        f"Labels of {number_of(counts['train'], 'training image')}{test} are corrected, as {path} says. "
        "To take that back, delete its rows, or the file."
    )


def images_of_other_endings(config: RunConfig) -> dict[str, int]:
    """Ending → images in the data set's folders that are used for nothing, because no image ends so."""
    root = config.spec.find(config.data_dir, fetch=False)
    return config.spec.layout.images_of_other_endings(config.spec, root)


def other_endings_sentence(counts: Mapping[str, int]) -> str:
    """What to tell about them, and what to do."""
    return (
        f"Left out: {of_other_endings(counts)}, and files with such names are not read. "
        "Convert or rename them to use them."
    )


def deployment_prior(config: RunConfig, data: PreparedData) -> float | tuple[float, ...]:
    """Share of the minority where the model will work: as the spec states it, else as in training.

    The test set is no evidence of it: many are balanced on purpose, and a model calibrated for one of them
    would take every second part for a defect.

    For K > 2 classes the shares of all, minority last. Where only the minority's is stated, the others
    share the rest as they do in training.

    Raises:
        UsageError: the test set's shares are asked for, and there is none.
    """
    names = data.manifest.class_names
    stated = config.spec.deployment_prior
    if config.spec.deployment_shares:
        return tuple(config.spec.deployment_shares[name] for name in names)
    if stated == "test" and not data.test:
        raise UsageError(
            f"{data.manifest.dataset}: deployment_prior=test, but no test set is held out. State a share, "
            "such as -o deployment_prior=0.05, or hold one out with -o test_share=0.2."
        )
    shares = _shares(data, "test" if stated == "test" else "train")
    if isinstance(stated, float):
        if len(names) == 2:
            return stated
        # The other classes keep their proportions among each other.
        others = 1.0 - shares[-1]
        return (*((1.0 - stated) * share / others for share in shares[:-1]), stated)
    return shares[-1] if len(names) == 2 else shares


def prior_sentence(config: RunConfig, data: PreparedData) -> str:
    """Class shares of test set and deployment, where they differ by more than a factor of two; else empty."""
    if not data.test or data.regime != "labelled":
        return ""
    names, test = data.manifest.class_names, _shares(data, "test")
    prior = deployment_prior(config, data)
    deployed = (1.0 - prior, prior) if isinstance(prior, float) else prior
    # Of two classes only the minority's share is spoken of.
    found = [
        (max(a / b, b / a), name, a, b)
        for name, a, b in zip(names, deployed, test, strict=True)
        if b > 0.0 and (len(names) > 2 or name == names[-1])
    ]
    ratio, name, ours, theirs = max(found, default=(1.0, "", 0.0, 0.0))
    if ratio <= MOST_PRIOR_RATIO:
        return ""
    spec = config.spec
    stated = spec.deployment_shares or spec.deployment_prior is not None
    origin = "as stated" if stated else "as in training"
    key = "deployment_prior=0.05" if len(names) == 2 else "deployment_shares={CLASS: SHARE, …}"
    return (
        f"Probabilities and threshold are made for a share of {ours:.2%} of {name} ({origin}), but the test "
        f"set has {theirs:.2%}. If you expect another share in use, state it with -o {key}, or with "
        "-o deployment_prior=test for the test set's."
    )


def median_aspect(data: PreparedData) -> float:
    """Longer side over shorter, of the median training image as it is stored; 1 is a square."""
    return float(np.median([max(r.width, r.height) / max(1, min(r.width, r.height)) for r in data.train]))


def shape_sentences(config: RunConfig, aspect: float) -> list[str]:
    """The region of interest, what becomes of pictures that are no squares, and mirror images.

    None where all is usual.
    """
    found = [] if config.region is None else [config.region.sentence]
    if config.recipe.views_at_scoring == "mirror":
        found.append(f"{MIRROR_SENTENCE} That is right where a mirrored image keeps its label.")
    if config.recipe.fit != "squeeze":
        found.append(shape_sentence(config.recipe.fit))
    elif config.region is None and "fit" not in config.left_to_choose and aspect > MOST_ASPECT_RATIO:
        found.append(
            f"In half of the training images the longer side is at least {aspect:.2f} times the shorter one; "
            "they are squeezed into squares. -o fit=pad and -o fit=crop keep their shape."
        )
    return found


def _shares(data: PreparedData, split: Literal["train", "test"]) -> tuple[float, ...]:
    counts = data.counts() if split == "train" else data.manifest.counts(split)
    return tuple(counts[name] / sum(counts.values()) for name in data.manifest.class_names)


def shared_across(data: PreparedData) -> dict[str, int]:
    """Leakage, counted again from the rows: groups and files on both sides of a split; all must be 0."""
    folds_of_group: dict[str, set[int]] = {}
    folds_of_file: dict[str, set[int]] = {}
    for row, fold in zip(data.train, data.fold_of_row.tolist(), strict=True):
        folds_of_group.setdefault(row.group, set()).add(fold)
        folds_of_file.setdefault(row.sha256, set()).add(fold)
    copies = {}
    if data.augmented:
        group_of = {row.path: row.group for row in data.train}
        # A copy in another group than its source could cross a fold without it.
        strays = sum(group_of.get(row.source or "") != row.group for row in data.augmented)
        copies = {"augmented copies separated from their training image": strays}
    across = {}
    if data.test:
        across = {
            "groups shared by training and test rows": len(
                folds_of_group.keys() & {row.group for row in data.test}
            ),
            "equal files shared by training and test rows": len(
                folds_of_file.keys() & {row.sha256 for row in data.test}
            ),
        }
    return {
        **copies,
        **across,
        "groups shared by folds": sum(len(folds) > 1 for folds in folds_of_group.values()),
        "equal files shared by folds": sum(len(folds) > 1 for folds in folds_of_file.values()),
    }


def print_data_facts(config: RunConfig, data: PreparedData) -> dict[str, Any]:
    """Print the facts as a table and sentences on stderr, and return them."""
    facts = data_facts(config, data)
    table = Table(title=escape(printable(f"{facts['dataset']}: {config.spec.title or facts['root']}")))
    table.add_column("class")
    table.add_column("training", justify="right")
    table.add_column("test", justify="right")
    for name in facts["classes"]:
        role = " (minority)" if name == facts["minority"] else ""
        table.add_row(f"{escape(printable(name))}{role}", str(facts["train"][name]), str(facts["test"][name]))
    console.print(table)
    if others := facts["images_of_other_endings"]:
        note(other_endings_sentence(others))
    status = facts["status"]
    if status.get("broken"):
        broken = [row for row in data.manifest.rows if row.status == "broken"]
        note(f"Broken images, left out: {len(broken)}; the first: {broken[0].path}: {broken[0].reason}")
        if len(broken) > 1:
            note(f"{config.folder / 'manifest.parquet'} lists all of them with their reasons.")
    if status.get("excluded"):
        excluded = [row for row in data.manifest.rows if row.status == "excluded"]
        note(
            f"Training images left out because they would leak or contradict others: {len(excluded)}; "
            f"the first: {excluded[0].path}: {excluded[0].reason}."
        )
    if status.get("dropped"):
        note(f"Training images dropped to make the imbalance: {status['dropped']}.")
    if "corrected" in facts:
        note(corrected_sentence(config, facts["corrected"]))
    _say_copies(config, data)
    for sentence in [*regime_sentences(config, data), *shape_sentences(config, facts["median_aspect"])]:
        note(sentence)
    repeats = f"{data.n_repeats} repeats of " if data.n_repeats > 1 else ""
    deployed = facts["deployment_prior"]
    folds = f"{repeats}{facts['folds']} folds"
    if deployed is None:
        note(f"{folds} of {len(data.train):,} images.")
    else:
        note(
            f"{folds} with {min(facts['minority_per_fold'])} to {max(facts['minority_per_fold'])} "
            f"{facts['minority']} each; prior {facts['trained_prior']:.4f} in training, "
            f"{deployed if isinstance(deployed, float) else deployed[-1]:.4f} in deployment."
        )
    if sentence := prior_sentence(config, data):
        note(sentence)
    return facts


def _say_copies(config: RunConfig, data: PreparedData) -> None:
    """What members learn from besides the training images."""
    minority = data.manifest.class_names[-1]
    if data.augmented:
        sources = len({row.source for row in data.augmented})
        alike = len(data.augmented) - len({row.sha256 for row in data.augmented})
        note(
            f"{len(data.augmented)} augmented copies of {sources} {minority} training "
            "images, for supervised members that learn from the images themselves; no figure counts them and "
            "they are never scored." + (f" {alike} of them are equal to another copy." if alike else "")
        )
    if data.views:
        names = ", ".join(plan.name for plan in config.members if learns_from_views(plan))
        changes = ", ".join(config.recipe.view_changes)
        note(
            f"{len(data.views):,} training images have a view ({changes}), from which {names} learn as well; "
            "no figure counts them and they are never scored."
        )
