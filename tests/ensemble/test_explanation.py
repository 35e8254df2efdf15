"""An image's logit taken apart: the parts sum to the whole, and ranks are those among other rows."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.explanation import member_shares
from ensemble.pipeline import fit_fusion


@pytest.mark.parametrize("n_classes", [2, 3])
def test_contributions_sum_to_the_logit(n_classes, make_table, make_table_3):
    table = make_table(n_neg=80, n_pos=20) if n_classes == 2 else make_table_3((40, 30, 20))
    fitted = fit_fusion(table, "stack")
    for row in (0, -1):
        scores = table.scores[row]
        shares = member_shares(fitted, table, scores)
        assert [share.member for share in shares] == list(table.member_names)
        logit = fitted.combination.logits(scores[None])[0]
        intercept = fitted.combination.intercept
        if n_classes == 2:
            expected = logit - intercept[0]
        else:
            expected = (logit - intercept)[-1] - (logit - intercept).mean()
        assert sum(share.contribution for share in shares) == pytest.approx(expected)


def test_what_all_classes_share_contributes_nothing(make_table_3):
    table = make_table_3((40, 30, 20))
    fitted = fit_fusion(table, "stack")
    scores = table.scores[0].astype(np.float64)
    lifted = scores.copy()
    lifted[:3] += 7.0  # the three logits of the first member
    before, after = (member_shares(fitted, table, each)[0] for each in (scores, lifted))
    assert after.contribution == pytest.approx(before.contribution)
    assert after.score == pytest.approx(before.score)


def test_ranks_among_other_rows_against_a_slow_version(make_table):
    table = make_table(n_neg=50, n_pos=10)
    fitted = fit_fusion(table, "stack")
    share = member_shares(fitted, table, table.scores[7])[2]
    own = table.scores[7, 2]
    majority = [table.scores[i, 2] < own for i in range(60) if table.labels[i] == 0]
    minority = [table.scores[i, 2] < own for i in range(60) if table.labels[i] == 1]
    assert share.above_majority == pytest.approx(sum(majority) / 50)
    assert share.above_minority == pytest.approx(sum(minority) / 10)
