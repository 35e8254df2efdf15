"""The facts about a run that people should see before training takes its time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from contracts.text import printable
from imagedata.file_names import of_other_endings
from reporting.terminal import console, note
from workflow.run.prepared import PreparedData
from workflow.settings.config import RunConfig


def data_facts(config: RunConfig, data: PreparedData) -> dict[str, Any]:
    """Counts per class and split, folds, priors, and what was left out and why."""
    manifest = data.manifest
    train, test = manifest.counts("train"), manifest.counts("test")
    minority = manifest.class_names[-1]
    is_minority = data.labels(data.train) == len(manifest.class_names) - 1
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
        "folds": config.recipe.folds,
        "minority_per_fold": [
            int(np.sum(is_minority & (data.fold_of_row == fold))) for fold in range(config.recipe.folds)
        ],
        "trained_prior": train[minority] / sum(train.values()),
        "deployment_prior": deployment_prior(config, data),
    }


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
    """Share of the minority where the model will work: as stated, else as in the test set.

    For K > 2 classes the shares of all, minority last. Where only the minority's is stated, the others
    share the rest as they do in the test set.
    """
    names = data.manifest.class_names
    test = data.manifest.counts("test")
    stated = config.spec.deployment_prior
    if len(names) == 2:
        return test[names[-1]] / sum(test.values()) if stated is None else stated
    if config.spec.deployment_shares:
        return tuple(config.spec.deployment_shares[name] for name in names)
    if stated is None:
        return tuple(test[name] / sum(test.values()) for name in names)
    others = sum(test[name] for name in names[:-1])
    # The other classes keep their proportions among each other.
    return (*((1.0 - stated) * test[name] / others for name in names[:-1]), stated)


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
    return {
        **copies,
        "groups shared by training and test rows": len(folds_of_group.keys() & {r.group for r in data.test}),
        "equal files shared by training and test rows": len(
            folds_of_file.keys() & {row.sha256 for row in data.test}
        ),
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
    if data.augmented:
        sources = len({row.source for row in data.augmented})
        alike = len(data.augmented) - len({row.sha256 for row in data.augmented})
        note(
            f"{len(data.augmented)} augmented copies of {sources} {facts['minority']} training images, for "
            "supervised members that learn from the images themselves; no figure counts them and they are "
            "never scored." + (f" {alike} of them are equal to another copy." if alike else "")
        )
    repeats = f"{config.recipe.repeats} repeats of " if config.recipe.repeats > 1 else ""
    deployed = facts["deployment_prior"]
    note(
        f"{repeats}{facts['folds']} folds with {min(facts['minority_per_fold'])}"
        f" to {max(facts['minority_per_fold'])} "
        f"{facts['minority']} each; prior {facts['trained_prior']:.4f} in training, "
        f"{deployed if isinstance(deployed, float) else deployed[-1]:.4f} in deployment."
    )
    return facts
