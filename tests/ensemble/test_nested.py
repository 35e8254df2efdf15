"""Nested cross-fitting: no row's label reaches what judges it."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from contracts.errors import ModelError
from ensemble.nested import CrossFittedEnsemble, cross_fitted, fitted_without, judges_itself
from ensemble.pipeline import fit_ensemble


def fit(oof):
    return {"ensemble": fit_ensemble(oof, threshold_rule="cost:1:10")}


@pytest.fixture(scope="module")
def oof(make_table):
    return make_table(n_neg=120, n_pos=15)


def test_a_fold_is_judged_by_the_fit_without_it(oof):
    ensemble = cross_fitted(oof, fit)["ensemble"]
    for fold in range(5):
        mine = oof.fold_of_row == fold
        alone = fit(oof.rows(~mine))["ensemble"]
        assert np.array_equal(ensemble.predict(oof.scores)[mine], alone.predict(oof.scores[mine]))
        assert np.array_equal(ensemble.decide(oof.scores)[mine], alone.decide(oof.scores[mine]))
        assert np.array_equal(ensemble.p_normal(oof.scores)[mine], alone.p_normal(oof.scores[mine]))


def test_the_labels_of_a_fold_do_not_change_what_is_said_of_it(oof):
    mine = oof.fold_of_row == 2
    turned = replace(oof, labels=np.where(mine, 1 - oof.labels, oof.labels))
    before, after = (cross_fitted(table, fit)["ensemble"] for table in (oof, turned))
    assert np.array_equal(before.predict(oof.scores)[mine], after.predict(oof.scores)[mine])
    # Sensitivity: the fit on all rows, which is shipped, does change.
    whole = [fit(table)["ensemble"].predict(oof.scores)[mine] for table in (oof, turned)]
    assert not np.allclose(*whole)


def test_what_is_shipped_is_the_fit_on_all_rows(oof):
    ensemble, whole = cross_fitted(oof, fit)["ensemble"], fit(oof)["ensemble"]
    assert isinstance(ensemble, CrossFittedEnsemble)
    assert (ensemble.threshold, ensemble.method) == (whole.threshold, whole.method)
    assert np.array_equal(ensemble.combination.weights, whole.combination.weights)


def test_other_rows_are_refused(oof):
    ensemble = cross_fitted(oof, fit)["ensemble"]
    with pytest.raises(ModelError, match=r"3 rows, but it judges the 135 rows"):
        ensemble.predict(oof.scores[:3])


def test_three_classes(make_table_3):
    oof = make_table_3()
    ensemble = cross_fitted(oof, lambda table: {"ensemble": fit_ensemble(table)})["ensemble"]
    p = ensemble.predict(oof.scores)
    assert p.shape == (255, 3)
    assert np.allclose(p.sum(axis=1), 1.0)


@pytest.mark.parametrize(("n_pos", "expected"), [(1, True), (2, False)])
def test_a_single_minority_image_cannot_be_left_out(make_table, n_pos, expected):
    assert judges_itself(make_table(n_neg=40, n_pos=n_pos)) is expected


def test_a_single_minority_image_is_judged_by_the_fit_on_all_rows(make_table):
    oof = make_table(n_neg=40, n_pos=1)
    ensemble, whole = cross_fitted(oof, fit)["ensemble"], fit(oof)["ensemble"]
    assert np.array_equal(ensemble.predict(oof.scores), whole.predict(oof.scores))


def test_every_row_of_the_table_is_cross_fitted(oof):
    fits = partial(lambda table: {"a": fit(table)["ensemble"], "b": fit(table)["ensemble"]})
    assert set(cross_fitted(oof, fits)) == {"a", "b"}


def test_a_fit_without_rows_never_sees_them(oof):
    """Labels and scores of what a fold may not learn from do not change what it says of another table."""
    learns = {fold: (oof.fold_of_row != fold) & (np.arange(135) < 130) for fold in (0, 3)}
    judged = oof.rows(np.isin(oof.fold_of_row, [0, 3]))
    before = fitted_without(oof, learns, judged.fold_of_row, fit)["ensemble"].predict(judged.scores)
    scores = np.where(np.arange(135)[:, None] < 130, oof.scores, 9.0).astype(np.float32)
    after = fitted_without(replace(oof, scores=scores), learns, judged.fold_of_row, fit)["ensemble"]
    assert np.array_equal(before, after.predict(judged.scores))
    mine = judged.fold_of_row == 3
    alone = fit(oof.rows(learns[3]))["ensemble"]
    assert np.array_equal(before[mine], alone.predict(judged.scores[mine]))
