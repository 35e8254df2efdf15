"""SMOTE and ADASYN: segments, counts, small classes, seeds."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import DataError
from supervised.synthetic.features import resample_features
from supervised.synthetic.latent import sample_between, target_counts
from supervised.synthetic.settings import SyntheticSettings

OPTIONS = {"sampler": "smote", "neighbours": 5, "cap": 1.0, "seed": 3}


def points_of(counts, seed=0, dim=4, apart=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    points = rng.normal(size=(len(labels), dim)) + apart * labels[:, None]
    return points.astype(np.float32), labels


def sample(points, labels, **options):
    sentences: list[str] = []
    given = {**OPTIONS, **options}
    sampled = sample_between(points, labels, int(labels.max()) + 1, report=sentences.append, **given)
    return sampled, sentences


def nearest_of_class(points, labels, row, k):
    """Positions of the k nearest rows of the row's class, the slow way."""
    others = [i for i in range(len(points)) if i != row and labels[i] == labels[row]]
    return sorted(others, key=lambda i: np.linalg.norm(points[i] - points[row]))[:k]


def lies_on_a_segment(new, points, labels, label, k):
    for row in np.flatnonzero(labels == label):
        for other in nearest_of_class(points, labels, row, k):
            direction = points[other] - points[row]
            step = (new - points[row]) @ direction / (direction @ direction)
            if -1e-4 <= step <= 1 + 1e-4 and np.allclose(points[row] + step * direction, new, atol=1e-4):
                return True
    return False


@pytest.mark.parametrize("sampler", ["smote", "adasyn"])
def test_new_rows_lie_between_a_row_and_a_near_one_of_its_class(sampler):
    points, labels = points_of((40, 9, 6))
    sampled, _ = sample(points, labels, sampler=sampler, neighbours=3)
    assert set(sampled.labels) == {1, 2}
    for new, label in zip(sampled.points, sampled.labels, strict=True):
        assert lies_on_a_segment(new, points, labels, label, 3)


@pytest.mark.parametrize(("cap", "expected"), [(1.0, [40, 40, 40]), (0.5, [40, 25, 20]), (0.1, [40, 25, 6])])
def test_classes_below_the_cap_grow_to_it(cap, expected):
    assert target_counts(np.array([40, 25, 6]), cap).tolist() == expected
    points, labels = points_of((40, 25, 6))
    sampled, _ = sample(points, labels, cap=cap)
    assert (np.bincount(labels) + np.bincount(sampled.labels, minlength=3)).tolist() == expected
    assert sampled.points.dtype == np.float32


def test_adasyn_counts_follow_the_slow_formula():
    # Three far corners of the plane with 3 minority rows each, and 0, 2 and 9 majority rows among them.
    rng = np.random.default_rng(1)
    corners = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    minority = np.concatenate([corner + rng.normal(size=(3, 2)) for corner in corners])
    majority = np.concatenate(
        [corner + rng.normal(size=(n, 2)) for corner, n in zip(corners, (0, 2, 9), strict=True)]
        + [np.array([1000.0, 1000.0]) + rng.normal(size=(60, 2))]
    )
    points = np.concatenate([majority, minority]).astype(np.float32)
    labels = np.repeat([0, 1], [len(majority), len(minority)]).astype(np.int64)
    k, wanted = 2, len(majority) - len(minority)
    hardness = []
    for row in np.flatnonzero(labels == 1):
        near = sorted(range(len(points)), key=lambda i: np.linalg.norm(points[i] - points[row]))[1 : k + 1]
        hardness.append(sum(labels[i] != 1 for i in near) / k)
    counts = np.rint(wanted * np.array(hardness) / sum(hardness)).reshape(3, 3).sum(axis=1)
    sampled, sentences = sample(points, labels, sampler="adasyn", neighbours=k)
    corner_of_new = np.linalg.norm(sampled.points[:, None] - corners, axis=2).argmin(axis=1)
    assert np.bincount(corner_of_new, minlength=3).tolist() == counts.tolist()
    assert counts[0] == 0 < counts[1] < counts[2]
    assert not sentences


def test_a_class_with_few_rows_uses_fewer_neighbours_and_says_so():
    points, labels = points_of((30, 4, 2))
    sampled, sentences = sample(points, labels)
    assert sampled.neighbours == {1: 3, 2: 1}
    assert sentences == [
        "smote: class 1 has 4 rows, so 3 neighbours are used instead of 5",
        "smote: class 2 has 2 rows, so 1 neighbours are used instead of 5",
    ]


@pytest.mark.parametrize("sampler", ["smote", "adasyn"])
def test_a_single_row_cannot_be_joined_with_another(sampler):
    points, labels = points_of((30, 1))
    with pytest.raises(
        DataError, match=rf"{sampler}: class 1 has 1 training images, but at least 2 are needed"
    ):
        sample(points, labels, sampler=sampler)
    # It need not grow where the cap does not ask for it.
    assert len(sample(points, labels, sampler=sampler, cap=1 / 30)[0].points) == 0


def test_adasyn_where_no_row_is_hard_draws_as_smote_does_and_says_so():
    points, labels = points_of((30, 10), apart=1000.0)
    one, sentences = sample(points, labels, sampler="adasyn")
    assert sentences == ["adasyn: no row of class 1 is harder than the others, so SMOTE is used"]
    assert np.array_equal(one.points, sample(points, labels)[0].points)


def test_adasyn_whose_counts_all_round_to_nothing_draws_as_smote_does():
    points, labels = points_of((41, 40), apart=0.0)
    one, sentences = sample(points, labels, sampler="adasyn")
    assert len(one.points) == 1
    assert len(sentences) == 1


@pytest.mark.parametrize("sampler", ["smote", "adasyn"])
def test_seeds(sampler):
    points, labels = points_of((30, 8))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, again, other = (sample(points, labels, sampler=sampler, seed=s)[0].points for s in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_classs_rows_depend_on_no_other_class_under_smote():
    points, labels = points_of((30, 8, 6))
    moved = points.copy()
    moved[labels == 2] += 50.0
    one, other = sample(points, labels)[0], sample(moved, labels)[0]
    assert np.array_equal(one.points[one.labels == 1], other.points[other.labels == 1])


def test_features_are_standardised_before_neighbours_are_sought():
    """A feature in large units must not decide who is near; new rows come back in those units."""
    points, labels = points_of((60, 12), dim=3)
    units = np.array([1.0, 1000.0, 0.001], dtype=np.float32)
    settings = SyntheticSettings(space="features", neighbours=2)
    plain, _ = resample_features(points, labels, 2, settings, 5)
    scaled, new_labels = resample_features(points * units + 7, labels, 2, settings, 5)
    np.testing.assert_allclose((scaled - 7) / units, plain, rtol=1e-2, atol=2e-3)
    assert (new_labels == 1).all()
    assert len(scaled) == 48
    assert scaled.dtype == np.float32


def test_a_feature_that_never_varies_stays_what_it_is():
    points, labels = points_of((20, 5))
    points[:, 1] = 3.25
    new, _ = resample_features(points, labels, 2, SyntheticSettings(space="features"), 0)
    assert (new[:, 1] == 3.25).all()
