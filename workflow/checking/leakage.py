"""``check --show-leak``: what random folds would add to a figure that grouped folds give."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.errors import UsageError
from contracts.rows import ImageRows, LabelArray
from features.devices import pick_device
from reporting.terminal import progress_bar
from workflow.run.fits import Fit
from workflow.run.prepared import PreparedData, group_numbers, prepare_data, seed_of
from workflow.settings.config import RunConfig
from workflow.settings.recipe import MemberPlan
from workflow.settings.registry import BASELINE, entry_of

_REPLICATES = 500

Float64Array = npt.NDArray[np.float64]


def measure_leak(config: RunConfig, rule: str | int) -> dict[str, Any]:
    """Train the recipe's baseline on the same rows with random and with grouped folds.

    Only a head on cached features is trained, which takes seconds; other members leak alike.

    Args:
        config: the data set and the recipe ``quick``.
        rule: regular expression, or number of a folder, that tells patients or lots.

    Returns:
        ``rule``, ``rows``, ``groups``, and of each head ``random`` and ``grouped`` (out-of-fold AUROC of
        the minority against the rest), their difference ``inflation`` and its 95 % ``interval``.

    Raises:
        DataError: too few groups for the folds.
    """
    from imagedata.folds import assign_folds
    from workflow.run.features import load_backbones

    config = replace(config, spec=config.spec.model_copy(update={"group": rule}))
    heads = [plan for plan in config.members if _is_head(plan)]
    heads.sort(key=lambda plan: plan.name != BASELINE)
    heads = heads[:1]
    if not heads:
        raise UsageError(f"recipe {config.recipe.name}: it has no head to show a leak with. Use quick.")
    data = prepare_data(config)
    labels = data.labels(data.train)
    names = data.manifest.class_names
    # Every row a group of its own: what folds do without a group rule.
    alone = np.array([row.path for row in data.train])
    arrangements = {
        "random": assign_folds(labels, alone, names, config.recipe.folds, config.seed, config.spec.name),
        "grouped": data.fold_of_row,
    }
    device = pick_device(config.options.device)
    backbones = load_backbones(config, {plan.backbone for plan in heads})
    found = []
    with progress_bar("random and grouped folds", len(heads) * 2 * config.recipe.folds) as bar:
        for plan in heads:
            loaded = backbones[plan.backbone]
            loaded.fill(data, data.train, config.decode, device)
            rows = loaded.rows(data, data.train, config.decode)
            scores = {}
            for name, fold_of_row in arrangements.items():
                bar.describe(f"{plan.name}, {name} folds")
                scores[name] = _out_of_fold(plan, rows, fold_of_row, config.seed, device)
                bar.advance(config.recipe.folds)
            found.append({"member": plan.name, **_inflation(data, labels, scores, config.seed)})
    groups = len({row.group for row in data.train})
    return {"rule": rule, "rows": len(data.train), "groups": groups, "members": found}


def _is_head(plan: MemberPlan) -> bool:
    return entry_of(plan.type).kind == "supervised" and getattr(plan.settings, "tune", "") == "head"


def _out_of_fold(
    plan: MemberPlan, rows: ImageRows, fold_of_row: npt.NDArray[np.int64], seed: int, device: str
) -> Float64Array:
    """``[N]`` log-odds of the minority by models that did not see the row."""
    from workflow.training.train import run_fit

    scores = np.empty(len(fold_of_row), dtype=np.float64)
    with tempfile.TemporaryDirectory() as folder:
        for fold in np.unique(fold_of_row).tolist():
            fit = Fit(plan, fold, seed_of(seed, plan.name, fold), "", Path(folder) / "fit.npz")
            result = run_fit(fit, rows, rows, fold_of_row, device)
            scores[fold_of_row == fold] = _minority_log_odds(result.scores.astype(np.float64))
    return scores


def _minority_log_odds(scores: Float64Array) -> Float64Array:
    """``[n]`` of ``[n, 1]`` logits, or of ``[n, K]`` whose last class is the minority."""
    if scores.shape[1] == 1:
        return scores[:, 0]
    others: Float64Array = np.logaddexp.reduce(scores[:, :-1], axis=1)
    return scores[:, -1] - others


def _inflation(
    data: PreparedData, labels: LabelArray, scores: dict[str, Float64Array], seed: int
) -> dict[str, Any]:
    """Both figures and their paired difference, groups drawn whole."""
    from sklearn.metrics import roc_auc_score

    from evaluation.bootstrap import central_interval, replicate_weights

    is_minority = (labels == len(data.manifest.class_names) - 1).astype(np.int64)
    figures = {name: float(roc_auc_score(is_minority, s)) for name, s in scores.items()}
    differences = []
    blocks = replicate_weights(is_minority, group_numbers(data.train), n_replicates=_REPLICATES, seed=seed)
    for block in blocks:
        # Row by row: scikit-learn's AUROC takes one weighting at a time.
        for weights in block:
            random, grouped = (
                roc_auc_score(is_minority, scores[name], sample_weight=weights)
                for name in ("random", "grouped")
            )
            differences.append(random - grouped)
    low, high = central_interval(differences)
    inflation = figures["random"] - figures["grouped"]
    return {**figures, "inflation": inflation, "interval": [float(low), float(high)]}
