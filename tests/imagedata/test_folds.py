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
        ([0] * 50 + [1] * 3, None, 5, "class COVID has 3 images but 5 folds need 5. Use -o folds=3."),
        ([0] * 2 + [1] * 30, None, 4, "class Normal has 2 images but 4 folds need 4. Use -o folds=2."),
        (
            [0] * 50 + [1],
            None,
            5,
            "class COVID has 1 image but 5 folds need 5. Add images of it; 2 is the least.",
        ),
        ([0] * 50, None, 5, "class COVID has 0 images but 5 folds need 5. Add images of it; 2 is the least."),
        (
            [0] * 50 + [1] * 9,
            [*range(50), *"xxxyyyzzz"],
            5,
            "class COVID has 3 groups but 5 folds need 5. Use -o folds=3.",
        ),
        (
            [0] * 50 + [1] * 9,
            [*range(50), *"xxxxxxxxx"],
            2,
            "class COVID has 1 group but 2 folds need 2. Add groups of it; 2 is the least.",
        ),
    ],
)
def test_too_few_for_the_folds(labels, groups, n_folds, said):
    with pytest.raises(DataError) as caught:
        folds_of(labels, groups, n_folds)
    assert str(caught.value) == f"covid: {said}"
    assert caught.value.exit_code == ExitCode.DATA


def test_advice_works():
    labels = [0] * 50 + [1] * 3
    assert sorted(folds_of(labels, n_folds=3)[-3:]) == [0, 1, 2]


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
def test_every_class_in_every_fold_and_no_group_in_two(rows, n_folds, seed, grouped):
    labels = np.array([label for label, _ in rows])
    groups = np.array([str(group) if grouped else str(i) for i, (_, group) in enumerate(rows)])
    try:
        folds = folds_of(labels, groups, n_folds, seed)
    except DataError:
        return
    assert set(folds.tolist()) == set(range(n_folds))
    for group in set(groups.tolist()):
        assert len(set(folds[groups == group].tolist())) == 1
    for fold in range(n_folds):
        assert set(labels[folds == fold].tolist()) == {0, 1}
        assert set(labels[folds != fold].tolist()) == {0, 1}
