"""Folds that leave out a kind: what is judged, by what, and that no group stands on both sides."""

from __future__ import annotations

import numpy as np
import pytest

from imagedata.kinds import NOT_JUDGED, KindFolds, kinds_of

N_MAJORITY, N_FOLDS = 30, 5


def folds_of(kinds: list[str], groups: list[int] | None = None) -> KindFolds | None:
    """30 majority rows and one minority row for each kind named, dealt to 5 folds."""
    n = N_MAJORITY + len(kinds)
    return KindFolds.make(
        np.array([""] * N_MAJORITY + kinds),
        np.arange(n) % N_FOLDS,
        np.arange(n) if groups is None else np.array(groups),
        np.arange(n) >= N_MAJORITY,
    )


@pytest.mark.parametrize("counts", [(3, 2), (6, 4, 2), (5, 5, 5, 5, 5), (9, 8, 7, 6, 5, 4, 3)])
def test_every_row_is_judged_once_without_its_kind(counts):
    kinds = [f"kind {k}" for k, count in enumerate(counts) for _ in range(count)]
    folds = folds_of(kinds)
    assert folds is not None
    assert folds.kinds == tuple(f"kind {k}" for k in range(min(len(counts), N_FOLDS)))
    for row, (kind, fold) in enumerate(zip(folds.kind_of_row, folds.judged_in, strict=True)):
        if kind and kind not in folds.kinds:
            assert fold == NOT_JUDGED
            continue
        learns = folds.learns(fold)
        assert not learns[row]
        if kind:
            assert folds.left_out(fold) == kind
            assert kind not in folds.kind_of_row[learns]
        else:
            assert fold == folds.fold_of_row[row]
    # All that is kept from a fold is the fold and one kind.
    for fold in folds.folds:
        kept = ~folds.learns(fold)
        assert ((folds.fold_of_row == fold) | (folds.kind_of_row == folds.left_out(fold)))[kept].all()


def test_too_few_kinds_or_images_make_no_folds():
    assert folds_of(["crack"] * 9) is None
    assert folds_of(["crack"] * 9 + ["hole"]) is None
    assert folds_of([""] * 9 + ["hole"] * 2) is None


def test_images_of_unknown_kinds_are_neither_learnt_from_nor_judged():
    folds = folds_of(["crack"] * 4 + ["hole"] * 4 + [""] * 3)
    assert folds is not None
    unknown = np.arange(N_MAJORITY + 8, N_MAJORITY + 11)
    assert (folds.judged_in[unknown] == NOT_JUDGED).all()
    assert not any(folds.learns(fold)[unknown].any() for fold in range(N_FOLDS))


def test_no_group_is_learnt_from_and_judged():
    # Lots of three majority images and one of the minority; a fold is a lot's.
    kinds = ["crack", "hole"] * 5
    lots = [row // 3 for row in range(N_MAJORITY)] + list(range(10))
    n = len(lots)
    groups = np.array(lots)
    names = np.array([""] * N_MAJORITY + kinds)
    folds = KindFolds.make(names, groups % N_FOLDS, groups, np.arange(n) >= N_MAJORITY)
    assert folds is not None
    judged = folds.judged_in != NOT_JUDGED
    # Rows whose lot has majority images in another fold than the one that leaves out their kind.
    assert 0 < (judged & folds.is_minority).sum() < 10
    for fold in folds.folds:
        asked = folds.judged_in == fold
        assert not set(groups[asked]) & set(groups[folds.learns(fold)])
    assert set(folds.folds) == set(folds.judged_in[judged & folds.is_minority].tolist())


def test_kinds_are_counted_most_first():
    assert list(kinds_of(["b", "", "a", "c", "c"]).items()) == [("c", 2), ("a", 1), ("b", 1)]
