"""Standard deviations with a floor."""

from __future__ import annotations

import numpy as np

from features.spread import floored_spread


def test_no_spread_is_far_below_the_usual_one_which_stays():
    spread = np.array([1e-5, 2.0, 2.0, 2.0, 200.0])
    np.testing.assert_allclose(
        floored_spread(spread), [np.sqrt(2.0), 2.0, 2.0, 2.0, np.sqrt(20002.0)], rtol=1e-6
    )


def test_constant_channels_do_not_count_for_the_floor():
    floored = floored_spread(np.array([0.0, 0.0, 0.0, 0.0, 3.0]))
    np.testing.assert_allclose(floored, [*[3.0 / np.sqrt(2.0)] * 4, 3.0])


def test_the_unit_of_all_channels_does_not_matter():
    spread = np.array([0.001, 0.2, 0.5, 3.0])
    np.testing.assert_allclose(floored_spread(1000.0 * spread), 1000.0 * floored_spread(spread))


def test_without_any_variation_features_are_divided_by_one():
    np.testing.assert_array_equal(floored_spread(np.zeros(3)), np.ones(3))
