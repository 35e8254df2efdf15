"""What counts support, against the rules they are taken from."""

import pytest

from ensemble.calibration.fitting import fit_calibrator
from workflow.run.sample_size import calibrator_family, imbalance_facts, least_conformal_level


def facts(
    positives: int, held_out: int = 0, groups: int | None = None, folds: int = 5, normal: int = 100, **more
):
    counts = {"fine": normal, "odd": positives}
    independent = {"fine": normal, "odd": positives if groups is None else groups}
    return imbalance_facts(counts, {"fine": held_out, "odd": held_out}, independent, "odd", folds, **more)


def sentences(found) -> dict[str, str]:
    return {each["name"]: each["sentence"] for each in found["support"]}


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
    assert by_name["folds"]["sentence"] == "5 folds: 3 independent images of odd, held out one at a time."
    assert found["recall_interval"] == [pytest.approx(0.683, abs=1e-3), pytest.approx(0.988, abs=1e-3)]
    assert by_name["recall"]["is_short"]
    assert "20 test images" in by_name["recall"]["sentence"]
    assert (found["ratio"], found["measured"]) == (2.5, "test_set")
    assert "held_out" not in by_name
    assert "at most -o folds=3." in sentences(facts(2, normal=3))["folds"]


@pytest.mark.parametrize("positives", range(1, 10))
def test_one_to_nine_train_and_are_judged_by_cross_validation(positives):
    found = facts(positives)
    said = sentences(found)
    assert (found["regime"], found["measured"]) == ("labelled", "cross_validation")
    assert said["held_out"].endswith("Every image trains, and figures are cross-validated.")
    assert f"there {'is' if positives == 1 else 'are'} {positives}." in said["held_out"]
    assert "Below 10 its probabilities are rough." in said["calibrator"]
    assert ("none can be judged on it" in said["supervision"]) == (positives == 1)
    low, high = found["recall_interval"]
    assert low < 0.9 <= high
    assert high - low > 0.3
    assert f"{positives} cross-validated image" in said["recall"]


@pytest.mark.parametrize(("n", "recall"), [(299, 0.99), (59, 0.95), (29, 0.9)])
def test_so_many_found_of_so_many_are_the_fewest_that_prove_a_recall(n, recall):
    from evaluation.comparison import clopper_pearson

    assert facts(3)["recall_claims"][f"{recall:g}"] == n
    # Two-sided at 90 % has the one-sided bound at 95 % as its lower end.
    assert clopper_pearson(n, n, 0.9)[0] >= recall
    assert clopper_pearson(n - 1, n - 1, 0.9)[0] < recall
    assert "299 of 299 for 99%, 59 of 59 for 95%, 29 of 29 for 90%." in sentences(facts(0))["recall_claim"]


def test_normal_images_alone():
    found = facts(0)
    said = sentences(found)
    assert (found["regime"], found["ratio"], found["calibrator"]) == ("normal_only", None, None)
    assert (found["recall_interval"], found["conformal"]["0.1"]) == (None, False)
    assert "From the first image of odd on supervised ones are trained too." in said["supervision"]
    assert said["calibrator"].startswith("No probability")
    assert said["labels"].startswith("All images are normal")
    assert not {"stacker", "conformal", "folds", "recall"} & set(said)


@pytest.mark.parametrize(
    ("normal", "least", "levels"),
    [(5, 1 / 6, []), (9, 0.1, ["0.1"]), (30, 1 / 31, ["0.1", "0.05"]), (99, 0.01, ["0.1", "0.05", "0.01"])],
)
def test_normal_images_bound_the_share_of_false_alarms(normal, least, levels):
    found = facts(0, normal=normal)
    assert found["least_p_normal"] == pytest.approx(least)
    assert [level for level, possible in found["false_alarms"].items() if possible] == levels
    assert f"fall to {least:.3g}" in sentences(found)["p_normal"]


def test_images_that_nobody_has_looked_at():
    found = facts(0, unlabelled=True)
    assert found["regime"] == "unlabelled"
    assert "all are taken to be normal" in sentences(found)["labels"]
