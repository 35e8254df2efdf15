"""What counts support, against the rules they are taken from."""

import pytest

from ensemble.calibration.fitting import fit_calibrator
from workflow.checking.sample_size import calibrator_family, imbalance_facts, least_conformal_level


def facts(positives: int, held_out: int = 0, groups: int | None = None, folds: int = 5):
    counts = {"fine": 100, "odd": positives}
    independent = {"fine": 100, "odd": groups or positives}
    return imbalance_facts(counts, {"fine": held_out, "odd": held_out}, independent, "odd", folds)


@pytest.mark.parametrize(
    ("positives", "family"), [(1, "Platt"), (99, "Platt"), (100, "beta"), (500, "isotonic")]
)
def test_family_is_what_the_ensemble_will_take(positives, family):
    import numpy as np

    labels = np.repeat([0, 1], [600, positives])
    logit = np.random.default_rng(0).normal(labels.astype(float))
    assert calibrator_family(positives) == family
    assert type(fit_calibrator(logit, labels)[0]).__name__.lower().startswith(family.lower())


@pytest.mark.parametrize(("positives", "possible"), [(8, False), (9, True), (18, True)])
def test_conformal_needs_nine_for_a_tenth(positives, possible):
    found = facts(positives)
    assert found["conformal"] == {"0.1": possible, "0.05": positives >= 19, "0.01": False}
    assert least_conformal_level(9) == pytest.approx(0.1)


def test_folds_are_counted_in_groups_and_recall_in_held_out_rows():
    found = facts(40, held_out=20, groups=3)
    by_name = {each["name"]: each for each in found["support"]}
    assert by_name["folds"]["is_short"]
    assert "at most -o folds=3." in by_name["folds"]["sentence"]
    assert found["recall_interval"] == [pytest.approx(0.683, abs=1e-3), pytest.approx(0.988, abs=1e-3)]
    assert by_name["recall"]["is_short"]
    assert found["ratio"] == 2.5
    assert "recall" not in {each["name"] for each in facts(40)["support"]}


def test_no_positives_at_all():
    found = facts(0, groups=1)
    assert found["ratio"] is None
    assert found["conformal"]["0.1"] is False
