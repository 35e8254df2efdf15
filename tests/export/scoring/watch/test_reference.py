from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from contracts.errors import ModelError
from export.scoring.watch.batch import count_images, log_odds_in_training
from export.scoring.watch.reference import (
    N_FINE,
    Quantity,
    WatchReference,
    bin_counts,
    feature_name,
    fine_centres,
    fine_counts,
    largest_fold_distance,
    reference_of,
)
from imagedata.decoding.facts import TITLES
from tests.export.scoring.watch.made_up import reference


def test_a_reference_survives_json():
    kept = reference()
    again = WatchReference.from_json(json.loads(json.dumps(kept.to_json())))
    assert again.to_json() == kept.to_json()
    assert again.by_class


def test_a_file_without_one_has_none_and_a_damaged_one_is_refused():
    assert reference_of({"format": 2}) is None
    broken = reference().to_json()
    with pytest.raises(ModelError, match="version 3, but at most 2 is read here"):
        reference_of({"watch": {**broken, "version": 3}})
    del broken["quantities"]
    with pytest.raises(ModelError, match="damaged"):
        reference_of({"watch": broken})


def test_a_file_of_the_first_version_watches_no_features():
    first = reference_of({"watch": {**reference().to_json(), "version": 1}})
    assert first is not None
    assert first.n_features == 0
    facts, score = np.zeros((3, len(TITLES)), np.float32), np.zeros((3, 1), np.float32)
    some = Quantity.fit("brightness", "b", np.arange(9.0), np.zeros(9, np.int64), 1, 0.05)
    kept = replace(first, quantities=(some,))
    assert count_images(kept, ["m"], facts, score, np.zeros(3)).counts[0].sum() == 3


def test_features_are_counted_by_their_columns():
    values = np.random.default_rng(0).normal(size=(50, 2))
    quantities = tuple(
        Quantity.fit(feature_name(at), "f", values[:, at], np.zeros(50, np.int64), 1, 0.05) for at in (1, 0)
    )
    kept = replace(reference(), quantities=quantities)
    assert kept.n_features == 2
    facts, score = np.zeros((50, len(TITLES)), np.float32), np.zeros((50, 1), np.float32)
    counted = count_images(kept, ["m"], facts, score, None, values.astype(np.float32))
    for counts, quantity in zip(counted.counts, quantities, strict=True):
        assert np.abs(counts - quantity.counts[0]).max() <= 1  # but for the rounding to float32


def test_bins_hold_every_value_once_and_training_values_lie_inside():
    values = np.array([3.0, 3.0, 3.0, 5.0, 8.0])
    quantity = Quantity.fit("q", "q", values, np.zeros(5, np.int64), 1, 0.05)
    assert quantity.counts.shape == (1, len(quantity.edges) + 1)
    assert quantity.counts[0, 0] == quantity.counts[0, -1] == 0
    assert quantity.counts.sum() == 5
    outside = bin_counts(quantity.edges, [2.0, 9.0])
    assert outside[0] == outside[-1] == 1


def test_a_constant_of_training_tells_all_other_values_apart():
    quantity = Quantity.fit("q", "q", np.full(9, 300.0), np.zeros(9, np.int64), 1, 0.05)
    assert bin_counts(quantity.edges, [300.0]).argmax() not in {0, len(quantity.edges)}
    assert bin_counts(quantity.edges, [150.0]).argmax() == 0
    assert bin_counts(quantity.edges, [600.0]).argmax() == len(quantity.edges)


def test_fine_bins_count_everything():
    counts = fine_counts([-np.inf, -20.0, 0.01, 13.99, 14.0, 99.0])
    assert counts.sum() == 6
    assert counts[0] == 2
    assert counts[-1] == 3
    assert fine_centres()[counts.argmax()] > 13.0
    assert len(counts) == N_FINE


def test_log_odds_do_not_depend_on_the_prior_of_the_scores():
    document = {"prior": 0.3, "trained_prior": 0.05}
    at_training = np.array([0.02, 0.5, 0.97])

    def shifted(prior):
        odds = at_training / (1 - at_training) * (prior / (1 - prior)) / (0.05 / 0.95)
        return odds / (1 + odds)  # in double precision, where rounding cannot hide an error

    expected = np.log(at_training / (1 - at_training))
    np.testing.assert_allclose(log_odds_in_training(shifted(0.3), None, document), expected, atol=1e-5)
    np.testing.assert_allclose(log_odds_in_training(shifted(0.6), 0.6, document), expected, atol=1e-5)


def test_log_odds_of_many_classes_are_the_minority_against_the_rest():
    document = {"prior": [0.5, 0.3, 0.2], "trained_prior": [0.6, 0.3, 0.1]}
    p = np.array([[0.6, 0.3, 0.1]])
    at_prior = p * np.array([0.5 / 0.6, 1.0, 2.0])
    at_prior /= at_prior.sum()
    np.testing.assert_allclose(log_odds_in_training(at_prior, None, document), np.log(0.1 / 0.9))


def test_the_distance_of_folds_is_the_largest():
    values, folds = np.r_[np.arange(10.0), np.arange(10.0) + 100.0], np.repeat([0, 1], 10)
    assert largest_fold_distance(values, folds) == 1.0
    assert largest_fold_distance(values, np.arange(20) % 2) == pytest.approx(0.1)
