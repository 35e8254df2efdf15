"""Budgets of a bank, and that a recipe names one of them."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from contracts.errors import DataError
from contracts.member import FitContext
from contracts.rows import FeatureShapes
from oneclass.patchcore import bank_budget
from oneclass.patchcore.bank_budget import bank_bytes_per_patch, milliseconds_per_image, resolve_bank_size
from oneclass.patchcore.member import PatchCore
from oneclass.patchcore.module import PatchCoreModule
from oneclass.patchcore.settings import PatchCoreSettings
from tests.rows import synthetic_rows

SHAPES = FeatureShapes(image_size=32, pooled_dim=4, patch_channels=8, patch_grid=6)


def size_of(n_images=100, n_candidates=3600, dim=8, **settings):
    return resolve_bank_size(PatchCoreSettings(**settings), SHAPES, n_images, n_candidates, dim)


def test_defaults_and_one_budget_at_a_time():
    assert PatchCoreSettings().bank_size == 1000
    assert PatchCoreSettings(bank_ratio=0.1).bank_size is None
    assert PatchCoreSettings(bank_mb=1, bank_size=None).budget == "bank_mb=1"
    # What a run keeps of its settings is read back.
    for given in ({}, {"bank_ms": 2.0}, {"bank_size": 50}):
        settings = PatchCoreSettings(**given)
        assert PatchCoreSettings(**settings.model_dump()) == settings
    for wrong in (
        {"bank_size": 50, "bank_mb": 1.0},
        {"bank_ratio": 0.1, "bank_ms": 1.0},
        {"bank_size": None},
    ):
        with pytest.raises(ValidationError, match="name one of bank_size, bank_ratio, bank_mb, bank_ms, not"):
            PatchCoreSettings(**wrong)
    with pytest.raises(ValidationError, match="must be odd"):
        PatchCoreSettings(neighbourhood=2)


def test_size_and_ratio():
    assert size_of(bank_size=70) == 70
    assert size_of(bank_ratio=0.1) == 360
    assert size_of(bank_ratio=1e-9) == 1
    with pytest.raises(
        DataError, match=r"bank_ratio=0.1 of 3,600 patches is 360, but there are only 300 candidates"
    ):
        size_of(bank_ratio=0.1, n_candidates=300)


@pytest.mark.parametrize("image_score", ["top_or_all", "top_mean", "knn_mean", "reweighted"])
def test_megabytes_are_those_of_the_buffers_that_the_score_reads(image_score):
    settings = PatchCoreSettings(image_score=image_score, bank_mb=0.02)
    size = size_of(**settings.model_dump(exclude={"bank_size"}))
    module = PatchCoreModule(settings, torch.zeros(8), None, torch.zeros(size, 8))
    read = [buffer for part in module.slices for buffer in part.buffers()] + (
        {"reweighted": [module.bank], "top_or_all": [module.usual]}.get(image_score, [])
    )
    taken = sum(tensor.numel() * tensor.element_size() for tensor in read)
    assert 20_000 - bank_bytes_per_patch(settings, 8) < taken <= 20_000
    with pytest.raises(
        DataError, match=r"bank_mb=0.0001 has room for \d bank patches, but at least 10 are needed"
    ):
        size_of(image_score=image_score, bank_mb=0.0001)


def test_milliseconds_on_a_machine_that_takes_a_fixed_time_a_patch(monkeypatch):
    """0.2 ms for an image and 1 ms for every 1,000 bank patches."""
    monkeypatch.setattr(
        bank_budget, "milliseconds_per_image", lambda module, _: 0.2 + len(module.bank) / 1000
    )
    size = size_of(bank_ms=1.2)
    assert 1000 / 2**0.5 < size <= 1000
    # Steps are coarse, so that a slightly other measurement gives the same bank.
    assert size_of(bank_ms=1.25) == size
    assert size_of(bank_ms=1.2, n_candidates=300) <= 300
    assert size_of(bank_ms=1000.0) > 2000
    with pytest.raises(DataError, match=r"bank_ms=0.1 .* Scoring takes 0.20 ms per image here"):
        size_of(bank_ms=0.1)


def test_what_is_measured_is_a_time():
    module = PatchCoreModule(PatchCoreSettings(), torch.zeros(8), None, torch.randn(50, 8))
    assert 0.0 < milliseconds_per_image(module, SHAPES) < 1000.0


def test_the_cached_result_says_what_a_budget_came_to():
    sentences = []
    rows = synthetic_rows((40, 0))
    member = PatchCore(PatchCoreSettings(bank_ratio=0.05)).fit(rows, FitContext(0, report=sentences.append))
    assert len(member.raw_module().bank) == 72
    assert sentences == ["bank_ratio=0.05 gives a bank of 72 patches."]
    repeated = PatchCore(PatchCoreSettings(bank_size=72)).fit(rows, FitContext(0))
    assert torch.equal(repeated.raw_module().bank, member.raw_module().bank)
