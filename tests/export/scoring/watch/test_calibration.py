from __future__ import annotations

import numpy as np

from export.scoring.watch.calibration import watch_calibration


def test_probabilities_that_hold_raise_few_alarms():
    alarms = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        p = random.beta(1.0, 6.0, 150)
        alarms += watch_calibration(p, random.random(150) < p, seed).first_alarm is not None
    assert alarms <= 4  # five or more of 100 at a rate of 1 % happen once in 300 times


def test_answers_more_frequent_than_said_are_found_and_when():
    random = np.random.default_rng(1)
    p = random.beta(1.0, 6.0, 400)
    odds = np.where(np.arange(400) < 200, 1.0, 5.0) * p / (1 - p)
    found = watch_calibration(p, random.random(400) < odds / (1 + odds))
    assert found.first_alarm is not None
    assert 200 < found.first_alarm < 300
    assert "They are too low" in found.sentence
    assert found.more[found.first_alarm] > found.limit


def test_answers_less_frequent_than_said():
    p = np.full(100, 0.4)
    found = watch_calibration(p, np.arange(100) % 20 == 0)
    assert found.first_alarm is not None
    assert "5 of 100 answered images are of the minority, 40.0 were expected" in found.sentence
    assert "too high" in found.sentence


def test_the_sum_is_that_of_the_paper_step_by_step():
    random = np.random.default_rng(2)
    p, y = random.random(50), random.random(50) < 0.5
    found = watch_calibration(p, y)
    for odds, sums in ((2.0, found.more), (0.5, found.fewer)):
        c, expected = 0.0, []
        for p_t, y_t in zip(p, y, strict=True):
            c = max(0.0, c + (np.log(odds) if y_t else 0.0) - np.log(1.0 - p_t + odds * p_t))
            expected.append(c)
        np.testing.assert_allclose(sums, expected, atol=1e-9)


def test_certain_probabilities_do_not_break_it():
    found = watch_calibration(np.array([0.0, 1.0] * 20), np.array([False, True] * 20))
    assert found.first_alarm is None
    assert found.to_json()["answers"] == 40
