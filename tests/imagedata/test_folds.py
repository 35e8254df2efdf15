import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import DataError, ExitCode
from imagedata.folds import assign_folds


def folds_of(labels, groups=None, n_folds=5, seed=0, names=("Normal", "COVID")):
    labels = np.asarray(labels, dtype=np.int64)
    groups = np.array([str(g) for g in (range(len(labels)) if groups is None else groups)])
    return assign_folds(labels, groups, names, n_folds, seed, "covid")


@pytest.mark.parametrize(
    ("labels", "groups", "n_folds", "said"),
    [
        ([0] * 2 + [1] * 30, None, 4, "class Normal has 2 images but 4 folds need 4. Use -o folds=2."),
        (
            [0] + [1] * 30,
            None,
            5,
            "class Normal has 1 image but 5 folds need 5. Add images of it; 2 is the least.",
        ),
        (
            [0] * 9 + [1] * 50,
            [*"xxxyyyzzz", *range(50)],
            5,
            "class Normal has 3 groups but 5 folds need 5. Use -o folds=3.",
        ),
    ],
)
def test_too_few_for_the_folds(labels, groups, n_folds, said):
    with pytest.raises(DataError) as caught:
        folds_of(labels, groups, n_folds)
    assert str(caught.value) == f"covid: {said}"
    assert caught.value.exit_code == ExitCode.DATA


def test_advice_works():
    labels = [0] * 2 + [1] * 30
    assert sorted(folds_of(labels, n_folds=2)[:2]) == [0, 1]


@pytest.mark.parametrize("minority", range(5))
@pytest.mark.parametrize("seed", range(3))
def test_a_minority_that_does_not_go_round_is_held_out_one_at_a_time(minority, seed):
    folds = folds_of([0] * 50 + [1] * minority, seed=seed)
    assert len(set(folds[50:].tolist())) == minority
    assert np.bincount(folds[:50], minlength=5).tolist() == [10] * 5


def test_a_minority_of_few_groups_is_held_out_one_group_at_a_time():
    groups = [*(f"n{n // 2}" for n in range(50)), *"xxxyyyzzz"]
    folds = folds_of([0] * 50 + [1] * 9, groups)
    by_group = {group: set(folds[50 + 3 * place : 53 + 3 * place]) for place, group in enumerate("xyz")}
    assert all(len(held) == 1 for held in by_group.values())
    assert len(set.union(*by_group.values())) == 3
    sizes = np.bincount(folds[:50], minlength=5)
    assert sizes.sum() == 50
    assert sizes.min() >= 8
    assert len(set(folds_of([0] * 50 + [1] * 9, [*range(50), *"xxxxxxxxx"])[50:])) == 1


def test_a_patient_with_both_classes_stays_whole():
    # Patients 0 to 2 have a sick image beside nine others; five more have nine healthy ones.
    labels = [*([0] * 9 + [1]) * 3, *[0] * 45]
    groups = [*(n // 10 for n in range(30)), *(3 + n // 9 for n in range(45))]
    folds = folds_of(labels, groups)
    assert len({folds[9], folds[19], folds[29]}) == 3
    assert all(len(set(folds[np.array(groups) == group])) == 1 for group in range(8))
    assert (np.bincount(folds, minlength=5) > 0).all()


def test_other_seeds_arrange_few_otherwise():
    labels = [0] * 50 + [1] * 2
    arrangements = {tuple(folds_of(labels, seed=seed)[-2:]) for seed in range(20)}
    assert len(arrangements) > 5
    assert (folds_of(labels) == folds_of(labels)).all()


def test_of_several_classes_one_may_not_go_round_but_has_two():
    names = ("x", "y", "z")
    labels = [0] * 20 + [1] * 3 + [2] * 9
    folds = folds_of(labels, names=names)
    assert len(set(folds[20:23].tolist())) == 3
    assert (np.bincount(folds[:20], minlength=5) == 4).all()
    assert (np.bincount(folds[23:], minlength=5) > 0).all()
    with pytest.raises(DataError) as caught:
        folds_of([0] * 20 + [1] + [2] * 9, names=names)
    assert str(caught.value) == (
        "covid: class y has 1 image; of more than two classes each needs 2, one to learn from while the "
        "other judges. Add images of it, or leave the class out."
    )


def test_deterministic_and_seeded():
    labels = [0] * 60 + [1] * 12
    assert (folds_of(labels) == folds_of(labels)).all()
    assert (folds_of(labels) != folds_of(labels, seed=1)).any()


def test_stratified():
    folds = folds_of([0] * 230 + [1] * 10)
    assert np.bincount(folds[:230]).tolist() == [46] * 5
    assert np.bincount(folds[230:]).tolist() == [2] * 5


def test_three_classes():
    labels = [0] * 20 + [1] * 15 + [2] * 5
    folds = folds_of(labels, names=("x", "y", "z"))
    assert all((np.bincount(folds[np.array(labels) == c], minlength=5) > 0).all() for c in range(3))


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 14)), min_size=1, max_size=80),
    st.integers(2, 5),
    st.integers(0, 2),
    st.booleans(),
)
def test_every_class_in_as_many_folds_as_it_has_groups_and_no_group_in_two(rows, n_folds, seed, grouped):
    labels = np.array([label for label, _ in rows])
    groups = np.array([str(group) if grouped else str(i) for i, (_, group) in enumerate(rows)])
    try:
        folds = folds_of(labels, groups, n_folds, seed)
    except DataError:
        return
    n_minority = len(set(groups[labels == 1].tolist()))
    for group in set(groups.tolist()):
        assert len(set(folds[groups == group].tolist())) == 1
    for fold in range(n_folds):
        assert 0 in labels[folds == fold]
        assert 0 in labels[folds != fold]
        if n_minority >= n_folds:
            assert 1 in labels[folds == fold]
        if n_minority > 1:
            assert 1 in labels[folds != fold]
    if n_minority < n_folds:
        assert len(set(folds[labels == 1].tolist())) == n_minority


@pytest.mark.parametrize("minority", [1, 2, 4, 5, 20])
def test_labels_of_a_minority_move_no_normal_image(minority):
    labels = np.repeat([0, 1], [60, minority])
    groups = np.array([f"image{i}" for i in range(len(labels))])
    folds = assign_folds(labels, groups, ("fine", "odd"), 5, 3, "parts")
    alone = assign_folds(labels[:60], groups[:60], ("fine", "odd"), 5, 3, "parts")
    assert (folds[:60] == alone).all()
    assert len(set(folds[60:])) == min(minority, 5)
