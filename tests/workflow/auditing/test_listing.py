"""The order of the list."""

from __future__ import annotations

from workflow.auditing.listing import in_order


def test_hidden_ones_first_and_near_copies_together():
    kinds = ["false_minority", "hidden", "other", "hidden", "false_minority", "other"]
    assert in_order(kinds, range(6)) == [1, 3, 0, 4, 2, 5]
    # The family of 5 and 3 stands where its hidden member does, behind 1.
    assert in_order(kinds, [0, 1, 2, 3, 4, 3]) == [1, 3, 5, 0, 4, 2]
    # A family of no hidden member stands where its most contradicted one does.
    assert in_order(kinds, [0, 1, 0, 3, 4, 5]) == [1, 3, 0, 2, 4, 5]
