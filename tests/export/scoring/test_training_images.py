"""The images that a model was trained on are told by their bytes, and no others are."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from export.scoring import training_images
from export.scoring.training_images import TrainingImages


def files(count: int, seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(100 + i % 7) for i in range(count)]


def of(data: list[bytes], *, sizes: bool = True) -> TrainingImages:
    digests = [hashlib.sha256(each).hexdigest() for each in data]
    return TrainingImages.of(digests, [len(each) for each in data] if sizes else [])


@pytest.mark.parametrize("sizes", [True, False])
def test_training_images_are_known_and_others_of_the_same_size_are_not(sizes):
    mine, others = files(500, seed=1), files(5000, seed=2)
    known = TrainingImages.from_text(of(mine, sizes=sizes).to_text())
    assert all(each in known for each in mine)
    assert not any(each in known for each in others)
    assert b"" not in known


def test_text_is_small_and_the_same_in_any_order():
    mine = files(1000, seed=1)
    text = of(mine).to_text()
    assert text == of(mine[::-1]).to_text()
    assert len(text) < 10_000


def test_number_of_named_images_is_bounded(monkeypatch):
    monkeypatch.setattr(training_images, "MOST_IMAGES", 50)
    known = TrainingImages.from_text(of(files(200, seed=1)).to_text())
    assert (len(known.digests), known.total) == (50, 200)


def test_a_file_of_another_size_is_not_hashed(monkeypatch):
    known = of(files(10, seed=1))
    monkeypatch.setattr(training_images, "hashlib", None)
    assert bytes(5000) not in known
