"""Out-of-fold scores and scores of new images by the final fit are on one scale (contracts/member.py)."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.member import FitContext
from contracts.rows import FloatArray
from tests.members.test_member_contract import CASES, Case
from tests.rows import ArrayRows, synthetic_rows
from workflow.settings.registry import entry_of

N_FOLDS = 5
SEEDS = (0, 1, 2)


def scores_of_folds_and_of_new_images(
    case: Case, rows: ArrayRows, new: ArrayRows, seed: int
) -> list[FloatArray]:
    """Scores of majority rows: those that a fold held out, and new ones by a fit on all rows."""
    fold = np.arange(len(rows)) % N_FOLDS
    held_out = []
    for k in range(N_FOLDS):
        member = case.build().fit(rows.subset(np.flatnonzero(fold != k)), FitContext(seed=10 * seed + k))
        mine = rows.subset(np.flatnonzero((fold == k) & (rows.labels == 0)))
        held_out.append(member.score(mine)[:, 0])
    final = case.build().fit(rows, FitContext(seed=10 * seed + N_FOLDS))
    return [np.concatenate(held_out), final.score(new)[:, 0]]


@pytest.mark.parametrize(
    "case", [c for c in CASES if entry_of(c.type).kind != "supervised"], ids=lambda c: c.id
)
def test_out_of_fold_scores_and_those_of_new_images_are_on_one_scale(case):
    drifts, means, spreads = [], [], []
    for seed in SEEDS:
        rows, new = synthetic_rows((80, 10), seed=seed), synthetic_rows((300, 0), seed=100 + seed)
        held_out, of_new = scores_of_folds_and_of_new_images(case, rows, new, seed)
        drifts.append((held_out.mean() - of_new.mean()) / of_new.std())
        means.append(of_new.mean())
        spreads.append(of_new.std())
    print(
        "DRIFT",
        case.id,
        np.round(drifts, 2),
        np.round(np.mean(drifts), 3),
        np.round(means, 2),
        np.round(spreads, 2),
    )
