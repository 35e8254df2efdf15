"""The out-of-fold figure that one of several repeats is chosen by."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, log_loss

from contracts.errors import UsageError
from ensemble.out_of_fold import HIGHER_IS_BETTER, out_of_fold_figure
from ensemble.pipeline import fit_single
from ensemble.stacking.stacker import cross_fit, single_method
from ensemble.stacking.training_scores import TrainingScores
from workflow.settings.recipe import Recipe


def test_figures_equal_scikit_learn_on_cross_fitted_rows(make_table):
    oof = make_table()
    fitted = fit_single(oof, "cnn0", deployment_prior=0.5)
    training = TrainingScores.from_table(oof)
    logits = fitted.calibrator(cross_fit(training, single_method(training, "cnn0")))
    trained = oof.labels.mean()
    shifted = logits - np.log(trained / (1 - trained))
    decision = 1 / (1 + np.exp(-shifted)) >= fitted.threshold
    recall, specificity = decision[oof.labels == 1].mean(), 1 - decision[oof.labels == 0].mean()
    expected = {
        "average_precision": average_precision_score(oof.labels, logits),
        "log_loss": log_loss(oof.labels, 1 / (1 + np.exp(-logits))),
        "hter": 1 - balanced_accuracy_score(oof.labels, decision),
        "f1": f1_score(oof.labels, decision),
        "g_mean": np.sqrt(recall * specificity),
    }
    assert expected.keys() == HIGHER_IS_BETTER.keys()
    for name, value in expected.items():
        assert out_of_fold_figure(oof, fitted, name) == pytest.approx(value)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_better_scores_have_the_better_figure(make_table, make_table_3, n_classes):
    make = make_table if n_classes == 2 else make_table_3
    tables = [make(strengths=(strength,)) for strength in (0.5, 3.0)]
    weak, strong = ((oof, fit_single(oof, "cnn0")) for oof in tables)
    for name, higher_is_better in HIGHER_IS_BETTER.items():
        low, high = out_of_fold_figure(*weak, name), out_of_fold_figure(*strong, name)
        assert (high > low) == higher_is_better


def test_unknown_figure_names_the_nearest(make_table):
    oof = make_table()
    with pytest.raises(UsageError, match=r"'hterr' does not exist\. Did you mean 'hter'"):
        out_of_fold_figure(oof, fit_single(oof, "cnn0"), "hterr")


def test_recipes_know_the_same_figures():
    assert set(get_args(Recipe.model_fields["select_by"].annotation)) == set(HIGHER_IS_BETTER)
