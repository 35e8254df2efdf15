"""Options of ``ensemble`` for triage stand for keys of the recipe."""

from __future__ import annotations

import pytest

from contracts.errors import UsageError
from workflow.commands.runs.ensemble import _rules
from workflow.score import parse_levels


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ((None, None, None), []),
        ((0.01, None, None), ["threshold=false_alarms<=0.01"]),
        ((0.02, 0.01, None), ["triage=miss_rate<=0.01,false_alarms<=0.02"]),
        ((None, None, 0.05), ["triage=review<=0.05"]),
        ((0.01, None, 0.05), ["triage=review<=0.05", "threshold=false_alarms<=0.01"]),
    ],
)
def test_what_they_stand_for(given, rules):
    assert _rules(*given) == rules


def test_what_contradicts_is_refused():
    with pytest.raises(UsageError, match="--review with --miss-rate"):
        _rules(None, 0.01, 0.05)
    with pytest.raises(UsageError, match=r"--miss-rate: triage takes two error rates\. Add --false-alarms"):
        _rules(None, 0.01, None)


def test_rates_for_scoring():
    assert parse_levels(None) is None
    assert parse_levels("0.01,.02") == {"miss_rate": 0.01, "false_alarms": 0.02}
    with pytest.raises(UsageError, match=r"--triage '0\.01': write two error rates"):
        parse_levels("0.01")
