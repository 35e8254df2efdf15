"""What to look at first: highest scores, one of each family, not all of one kind."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.first_look import first_look


def flooded(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``[400]`` scores, vectors and kinds: 60 of kind 1 in front, behind them 3 each of 2 to 4."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat([1, 2, 3, 4, 0], [60, 3, 3, 3, 331])
    centres = np.zeros((5, 24))
    centres[1:] = 3.0 * rng.choice([-1.0, 1.0], (4, 24))
    vectors = centres[kinds] + rng.normal(0, 1, (400, 24))
    scores = np.array([0.0, 9.0, 6.0, 5.0, 4.0])[kinds] + rng.normal(0, 0.5, 400)
    return scores, vectors, kinds


def test_a_flood_of_one_kind_leaves_places_to_others():
    scores, vectors, kinds = flooded()
    chosen = first_look(scores, vectors, vectors, np.arange(400), count=20).positions
    plain = np.argsort(-scores)[:20]
    assert set(kinds[plain]) == {1}
    assert {1, 2, 3, 4} <= set(kinds[chosen])


def test_the_highest_score_comes_first_and_only_the_order_of_scores_counts():
    scores, vectors, _ = flooded()
    found = first_look(scores, vectors, vectors, np.arange(400))
    assert found.positions[0] == scores.argmax()
    assert len(found.positions) == len(set(found.positions.tolist())) == 50
    stretched = first_look(np.exp(3 * scores), vectors, vectors, np.arange(400))
    assert stretched.positions.tolist() == found.positions.tolist()


def test_unlike_images_come_in_the_order_of_their_scores():
    vectors = np.concatenate([np.eye(6), -np.eye(6)])
    scores = np.arange(12, dtype=np.float64)
    found = first_look(scores, vectors, vectors, np.arange(12), count=5)
    assert found.positions.tolist() == [11, 10, 9, 8, 7]


def test_of_each_family_the_highest_score_stands_for_all():
    scores, vectors, _ = flooded()
    families = np.arange(400)
    families[[5, 70, 399]] = 5
    found = first_look(scores, vectors, vectors, families, count=400)
    assert len(found.positions) == 398
    first = max((5, 70, 399), key=lambda i: scores[i])
    assert set(found.positions.tolist()) & {5, 70, 399} == {first}
    assert found.family_sizes[found.positions.tolist().index(first)] == 3
    assert found.family_sizes.sum() == 400


def test_names_what_each_resembles_most_of_those_before_it():
    scores, vectors, kinds = flooded()
    found = first_look(scores, vectors, vectors, np.arange(400), count=12)
    assert found.nearest[0] == -1
    assert found.similarities[0] == 0.0
    for place in range(1, 12):
        before = found.positions[:place].tolist()
        assert found.nearest[place] in before
        if kinds[found.positions[place]] and kinds[found.positions[place]] in kinds[before]:
            assert kinds[found.nearest[place]] == kinds[found.positions[place]]
    assert np.abs(found.similarities).max() <= 1.0 + 1e-9


def test_equal_vectors_and_a_single_image_are_no_trouble():
    same = np.ones((4, 3))
    assert first_look(np.zeros(4), same, same, np.arange(4)).positions.tolist() == [0, 1, 2, 3]
    alone = first_look(np.ones(1), same[:1], same[:1], np.zeros(1, dtype=np.int64))
    assert (alone.positions.tolist(), alone.nearest.tolist()) == ([0], [-1])


@pytest.mark.slow
def test_shows_more_kinds_of_steel_defects_than_a_plain_ranking(shared_data, tmp_path):
    """Each of six kinds in turn is normal; 40 images of another kind and 2 each of three more are planted."""
    from features.backbones import Backbone
    from features.cache import FeatureStore
    from features.extract import ImageFile, extract_features
    from features.settings import BackboneSettings
    from imagedata.decoding.decode import DecodeSettings

    kinds = sorted(folder.name for folder in (shared_data / "neu").iterdir() if folder.is_dir())
    files = [(kind, file) for kind in kinds for file in sorted((shared_data / "neu" / kind).iterdir())[:150]]
    backbone = Backbone(BackboneSettings(image_size=128))
    store = FeatureStore(tmp_path, backbone.shapes)
    images = [ImageFile(str(number), file) for number, (_, file) in enumerate(files)]
    extract_features(backbone, store, images, DecodeSettings(size=128), "cpu", lambda *_: None)
    pooled = store.pooled([image.sha256 for image in images]).astype(np.float64)
    of_file = np.array([kind for kind, _ in files])
    shares: dict[str, list[float]] = {"plain": [], "diverse": []}
    for normal in kinds:
        for seed in range(5):
            rng = np.random.default_rng([seed, kinds.index(normal)])
            others = rng.permutation([kind for kind in kinds if kind != normal])[:4].tolist()
            wanted = {normal: 110, **dict(zip(others, (40, 2, 2, 2), strict=True))}
            rows = np.concatenate(
                [rng.permutation(np.flatnonzero(of_file == kind))[:n] for kind, n in wanted.items()]
            )
            x = pooled[rows] / np.linalg.norm(pooled[rows], axis=1, keepdims=True)
            distances = np.sqrt(np.maximum(2 - 2 * x @ x.T, 0)) + 9 * np.eye(len(x))
            scores = np.sort(distances, axis=1)[:, :3].mean(axis=1)
            found = first_look(scores, pooled[rows], pooled[rows], np.arange(len(rows)), count=20)
            for name, chosen in (("plain", np.argsort(-scores)[:20]), ("diverse", found.positions)):
                shares[name].append(len({*of_file[rows][chosen]} - {normal}) / 4)
    assert np.mean(shares["diverse"]) > np.mean(shares["plain"])
