"""The sentence about more labels promises what the curve shows, and nothing where it shows nothing."""

from __future__ import annotations

from typing import Any

import pytest

from reporting.learning_curve import learning_curves, more_labels

RISING = {"now": 0.81, "then": 0.85, "low": 0.82, "high": 0.89, "trend": "rises"}
FLAT = {"now": 0.9, "then": 0.905, "low": 0.86, "high": 0.93, "trend": "none"}
FULL = {"now": 0.998, "then": 0.9985, "low": 0.996, "high": 1.0, "trend": "ceiling"}


def curve(precision: dict[str, Any], auroc: dict[str, Any], **more: Any) -> dict[str, Any]:
    size = {"mean": 0.8, "interval": [0.7, 0.9], "values": [0.75, 0.85]}
    sizes = [{"images": n, "groups": n, "average_precision": size, "auroc": size} for n in (5.0, 20.0)]
    following = {"auroc": auroc, "average_precision": precision}
    return {"minority": "dent", "more": 10, "sizes": sizes, "next": following, "left_out": {}, **more}


def test_both_rise():
    assert more_labels(curve(RISING, {**RISING, "now": 0.9, "then": 0.92, "low": 0.91, "high": 0.94})) == (
        "With 10 more labelled images of “dent” (20 → 30), average precision would rise from 0.810 to about "
        "0.850 (95 % interval 0.820 to 0.890) and AUROC from 0.900 to about 0.920 (95 % interval 0.910 to "
        "0.940)."
    )


def test_an_interval_that_reaches_the_present_figure_is_said():
    said = more_labels(curve({**RISING, "low": 0.80}, FULL))
    assert "AUROC is 0.998 already." in said
    assert said.endswith("The interval does not exclude that they buy nothing.")


def test_without_a_trend_nothing_is_promised():
    said = more_labels(curve(FLAT, {**FLAT, "trend": "falls"}))
    assert said == (
        "What 10 more labelled images of “dent” would buy cannot be told: over 5 to 20 of them, average "
        "precision shows no trend beyond chance (now 0.900) and AUROC fell as labels were added, to 0.900."
    )
    assert "0.905" not in said


def test_at_the_ceiling():
    said = more_labels(curve(FULL, FULL))
    assert said.startswith(
        "10 more labelled images of “dent” can buy next to nothing here: average precision"
    )


def test_members_that_are_not_in_the_curve_are_named():
    said = more_labels(curve(RISING, FULL, left_out={"cnn_full": "learns from pixels"}))
    assert said.endswith("Measured without members that take long to refit: cnn_full learns from pixels.")


@pytest.mark.parametrize("found", [RISING, FLAT, FULL])
def test_figures_are_drawn_with_words(found):
    drawings = learning_curves(curve(found, FULL))
    assert [each.title for each in drawings] == [
        "Average precision over labelled images",
        "AUROC over labelled images",
    ]
    assert all(each.uri.startswith("data:image/svg") for each in drawings)
    assert "5: 0.800, 20: 0.800" in drawings[0].alt


def test_no_curve_no_figures():
    assert learning_curves({"sizes": [], "next": {}}) == []
