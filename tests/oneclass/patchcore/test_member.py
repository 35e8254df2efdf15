"""PatchCore against slow references, anomalib's model, and large features."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from contracts.errors import MemberCollapsedError, ModelError
from contracts.member import FitContext
from features.tensors import BackboneFeatures
from oneclass.patchcore.member import PatchCore, PatchCoreModule
from oneclass.patchcore.settings import PatchCoreSettings
from tests.rows import synthetic_rows


def backbone_features(patches):
    return BackboneFeatures(torch.empty(0), torch.empty(0), patches)


def bank_and_patches(n_bank=300, n_images=4, channels=24, grid=7, mean=3.0, spread=1.0, seed=0):
    """A bank ``[B, C]`` and the patches of some images, not centred."""
    generator = torch.Generator().manual_seed(seed)
    bank = mean + spread * torch.randn(n_bank, channels, generator=generator)
    patches = mean + spread * torch.randn(n_images, channels, grid, grid, generator=generator)
    return bank, patches


def module_of(bank, image_score="top_mean", usual=None, scales=None, **settings):
    """A module without PCA, centred as :meth:`PatchCore.fit` does it."""
    mean = bank.mean(dim=0)
    given = PatchCoreSettings(image_score=image_score, **settings)
    return PatchCoreModule(given, mean, None, bank - mean, usual=usual, scales=scales)


def slow_distances(bank, patches):
    """``[N, P]`` distances to the nearest bank patch, by differences in double precision."""
    cells_NPC = patches.flatten(start_dim=2).transpose(1, 2).double()
    return torch.stack(
        [(cells[:, None] - bank.double()[None]).square().sum(dim=2).sqrt().amin(dim=1) for cells in cells_NPC]
    )


@pytest.mark.parametrize("top", [1, 3, 1000])
def test_top_mean_against_slow_reference(top):
    bank, patches = bank_and_patches()
    score, patch_map = module_of(bank, top_patches=top)(backbone_features(patches))
    expected = slow_distances(bank, patches)
    n_top = min(top, expected.shape[1])
    torch.testing.assert_close(
        score[:, 0].double(), expected.sort(dim=1).values[:, -n_top:].mean(dim=1), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(patch_map.flatten(1).double(), expected, rtol=1e-5, atol=0)


def test_projected_scores_are_distances_in_the_projected_space():
    rows = synthetic_rows((30, 0))
    settings = PatchCoreSettings(pca_dim=3, bank_size=100, whiten=False, image_score="top_mean")
    member = PatchCore(settings).fit(rows, FitContext(0))
    module = member.raw_module()
    assert module.projection.shape == (8, 3)
    torch.testing.assert_close(module.projection.T @ module.projection, torch.eye(3), atol=1e-5, rtol=0)
    [patches] = rows.patches(len(rows))
    cells = (torch.from_numpy(patches).permute(0, 2, 3, 1).reshape(-1, 8) - module.mean) @ module.projection
    # PCA keeps the directions of largest variance, the first one first.
    variances = cells.var(dim=0)
    assert (variances.diff() < 0).all()
    covariance = np.cov(torch.from_numpy(patches).permute(0, 2, 3, 1).reshape(-1, 8).numpy().T)
    np.testing.assert_allclose(variances, np.linalg.eigvalsh(covariance)[::-1][:3], rtol=1e-3)
    nearest = torch.cdist(cells.double(), module.bank.double()).amin(dim=1).reshape(len(rows), -1)
    expected = nearest.sort(dim=1).values[:, -3:].mean(dim=1)
    np.testing.assert_allclose(member.raw_score(rows)[:, 0], expected, rtol=1e-4)


def slow_reweighted(bank, patches, neighbours):
    """The paper's equation 7, image by image, in double precision."""
    bank, scores = bank.double(), []
    for image, distances in zip(patches.double(), slow_distances(bank, patches), strict=True):
        place = int(distances.argmax())
        m_test = image.flatten(start_dim=1)[:, place]
        m_star = bank[(bank - m_test).norm(dim=1).argmin()]
        around = bank[(bank - m_star).norm(dim=1).argsort()[:neighbours]]
        crowd = torch.exp((around - m_test).norm(dim=1)).sum()
        scores.append((1 - torch.exp(distances[place]) / crowd) * distances[place])
    return torch.stack(scores)


@pytest.mark.parametrize(("n_bank", "neighbours"), [(300, 9), (300, 2), (5, 9)])
def test_reweighted_against_slow_reference(n_bank, neighbours):
    bank, patches = bank_and_patches(n_bank=n_bank)
    score, _ = module_of(bank, image_score="reweighted", neighbours=neighbours)(backbone_features(patches))
    expected = slow_reweighted(bank, patches, neighbours)
    torch.testing.assert_close(score[:, 0].double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (3.0, 1.0), (100.0, 1.0), (0.5, 0.01)])
def test_large_features_keep_their_small_distances(mean, spread):
    """Wide ResNets give patches with norms of hundreds that differ by little: products cancel there."""
    bank, patches = bank_and_patches(channels=256, mean=mean, spread=spread)
    score, patch_map = module_of(bank, top_patches=1)(backbone_features(patches))
    expected = slow_distances(bank, patches)
    torch.testing.assert_close(patch_map.flatten(1).double(), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(score[:, 0].double(), expected.amax(dim=1), rtol=1e-4, atol=0)


@pytest.fixture(scope="module")
def anomalib_model():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        model = PatchcoreModel(layers=["layer1"], backbone="resnet10t", pre_trained=False, num_neighbors=9)
    return model.eval()


@pytest.mark.parametrize(("channels", "mean", "spread"), [(24, 3.0, 1.0), (1536, 0.4, 0.5)])
def test_scores_are_anomalibs(anomalib_model, channels, mean, spread):
    """The same bank, no PCA, equation 7: image scores and patch maps are those of PatchcoreModel."""
    bank, patches = bank_and_patches(n_bank=400, channels=channels, mean=mean, spread=spread)
    patches[1] += 0.7 * spread  # an image that is far off
    anomalib_model.memory_bank = bank
    embedding = anomalib_model.reshape_embedding(patches)
    theirs, locations = anomalib_model.nearest_neighbors(embedding, n_neighbors=1)
    theirs, locations = theirs.reshape(len(patches), -1), locations.reshape(len(patches), -1)
    their_score = anomalib_model.compute_anomaly_score(theirs, locations, embedding)
    score, patch_map = module_of(bank, image_score="reweighted", neighbours=9)(backbone_features(patches))
    torch.testing.assert_close(score[:, 0], their_score, rtol=1e-4, atol=0)
    torch.testing.assert_close(patch_map.flatten(1), theirs, rtol=1e-4, atol=0)


def test_top_or_all_against_slow_reference():
    bank, patches = bank_and_patches()
    usual = torch.linspace(0.5, 3.0, len(bank))
    scales = torch.tensor([[0.1, 0.4, 3.0], [0.02, 1.5, 5.0]])
    module = module_of(bank, "top_or_all", usual, scales, top_patches=3)
    score, patch_map = module(backbone_features(patches))
    for image, of_image, of_map in zip(patches.double(), score, patch_map, strict=True):
        to_bank = torch.cdist(image.flatten(start_dim=1).T, bank.double())
        distances, nearest = to_bank.min(dim=1)
        np.testing.assert_allclose(of_map.flatten(), distances, rtol=1e-5)
        means = float(distances.sort().values[-3:].mean()), float((distances / usual[nearest]).mean())
        expected = [
            float(np.log((mean + offset) * factor) * inverse)
            for mean, (offset, factor, inverse) in zip(means, scales.tolist(), strict=True)
        ]
        assert float(of_image) == pytest.approx(max(expected), rel=1e-4)


def test_an_image_is_odd_by_one_place_or_as_a_whole():
    """Each of the two is seen, and neither hides the other."""
    rows = synthetic_rows((60, 0))
    member = PatchCore(PatchCoreSettings(bank_size=200)).fit(rows, FitContext(0))
    [patches] = synthetic_rows((40, 0), seed=1).patches()
    one_place, everywhere = patches.copy(), patches.copy()
    one_place[:, :, 2, 3] += 15.0
    everywhere += np.linspace(-2.5, 2.5, 8, dtype=np.float32)[:, None, None]
    module = member.to_module()
    usual, of_place, of_whole = (
        module(backbone_features(torch.from_numpy(each)))[0][:, 0].numpy()
        for each in (patches, one_place, everywhere)
    )
    assert np.median(of_place) > usual.max()
    assert np.median(of_whole) > usual.max()


def test_map_is_where_the_evidence_is():
    rows = synthetic_rows((40, 0))
    member = PatchCore(PatchCoreSettings(bank_size=200)).fit(rows, FitContext(0))
    [patches] = rows.subset(np.arange(3)).patches()
    patches[:, :, 4, 1] += 20.0
    _, patch_map = member.to_module()(backbone_features(torch.from_numpy(patches)))
    assert patch_map.flatten(1).argmax(dim=1).tolist() == [4 * 6 + 1] * 3


@pytest.mark.parametrize(("top", "neighbours"), [(1, 2), (3, 9), (3, 1000)])
def test_knn_mean_against_slow_reference(top, neighbours):
    bank, patches = bank_and_patches()
    module = module_of(bank, image_score="knn_mean", top_patches=top, neighbours=neighbours)
    score, patch_map = module(backbone_features(patches))
    for image, of_image, of_map in zip(patches.double(), score, patch_map, strict=True):
        cells = image.flatten(start_dim=1).T
        to_bank = [sorted((bank.double() - cell).norm(dim=1).tolist())[:neighbours] for cell in cells]
        distances = [sum(near) / len(near) for near in to_bank]
        np.testing.assert_allclose(of_map.flatten(), distances, rtol=1e-5)
        assert float(of_image) == pytest.approx(np.mean(sorted(distances)[-top:]), rel=1e-5)


@pytest.mark.parametrize("image_score", ["top_or_all", "top_mean", "knn_mean", "reweighted"])
@pytest.mark.parametrize("width", [1, 2, 7, 20, 23])
def test_slices_of_the_bank_make_no_difference(image_score, width, monkeypatch):
    torch.manual_seed(0)
    settings = PatchCoreSettings(image_score=image_score, neighbours=3, top_patches=2)
    parts = torch.zeros(6), None, torch.randn(23, 6), None, torch.rand(23) + 0.1
    features = backbone_features(torch.randn(4, 6, 3, 3))
    whole = PatchCoreModule(settings, *parts)
    monkeypatch.setattr("oneclass.patchcore.module._SLICE", width)
    sliced = PatchCoreModule(settings, *parts)
    assert len(sliced.slices) == -(-23 // width)
    for ours, theirs in zip(sliced(features), whole(features), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_neighbourhood_is_the_mean_of_the_cells_around_that_exist():
    bank, patches = bank_and_patches(n_images=2, channels=3, grid=4)
    module = module_of(bank, neighbourhood=3)
    points = module.projected(patches) + module.mean
    for image in range(2):
        for row in range(4):
            for column in range(4):
                around = [
                    patches[image, :, i, j]
                    for i in range(max(0, row - 1), min(4, row + 2))
                    for j in range(max(0, column - 1), min(4, column + 2))
                ]
                expected = torch.stack(around).mean(dim=0)
                torch.testing.assert_close(points[image, 4 * row + column], expected)


def test_whitened_bank_has_unit_variance_in_every_direction():
    rows = synthetic_rows((60, 0))
    settings = PatchCoreSettings(whiten=True, shrinkage=0.0, pca_dim=5, pca_rows="all", bank_size=5000)
    module = PatchCore(settings).fit(rows, FitContext(0)).raw_module()
    [patches] = rows.patches(len(rows))
    points = module.projected(torch.from_numpy(patches)).flatten(end_dim=1)
    np.testing.assert_allclose(np.cov(points.numpy().T), np.eye(5), atol=2e-3)


def test_map_is_upsampled_and_smoothed_and_the_score_is_not():
    bank, patches = bank_and_patches()
    mean = bank.mean(dim=0)
    plain, small = module_of(bank)(backbone_features(patches))
    settings = PatchCoreSettings(image_score="top_mean", map_size=28, map_sigma=2.0)
    score, large = PatchCoreModule(settings, mean, None, bank - mean, grid=7)(backbone_features(patches))
    assert torch.equal(score, plain)
    assert large.shape == (4, 28, 28)
    assert large.std() < small.std()
    with pytest.raises(ModelError, match="need the size of the patch grid"):
        PatchCoreModule(settings, mean, None, bank - mean)


def test_new_forms_survive_saving():
    rows = synthetic_rows((30, 0))
    settings = PatchCoreSettings(
        bank_mb=0.01, neighbourhood=3, whiten=True, map_size=12, image_score="knn_mean"
    )
    member = PatchCore(settings).fit(rows, FitContext(0))
    again = PatchCore(settings).restore(*member.state())
    [patches] = rows.subset(np.arange(4)).patches()
    for one, other in zip(
        *(each.to_module()(backbone_features(torch.from_numpy(patches))) for each in (member, again)),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_a_bank_that_holds_every_patch_is_no_collapse():
    """With few images all their patches fit into the bank, and their own scores are 0; others' are not."""
    train, new = synthetic_rows((8, 0)), synthetic_rows((20, 20), seed=1)
    member = PatchCore(PatchCoreSettings(bank_size=5000)).fit(train, FitContext(0))
    assert len(member.raw_module().bank) == 8 * 36
    scores = member.raw_score(new)[:, 0]
    assert len(np.unique(scores)) == len(scores)
    exactly = PatchCore(PatchCoreSettings(bank_size=8 * 36)).fit(train, FitContext(0))
    assert np.array_equal(np.sort(exactly.score(new)), np.sort(member.score(new)))


@pytest.mark.parametrize("settings", [{}, {"whiten": True, "pca_dim": 3}, {"image_score": "reweighted"}])
def test_constant_rows_are_a_collapse(settings):
    rows = synthetic_rows((30, 0))
    rows.base.patches[:] = np.linspace(300, 1.7, 8, dtype=np.float16).astype(np.float32)[:, None, None]
    with pytest.raises(MemberCollapsedError, match="patchcore: collapsed"):
        PatchCore(PatchCoreSettings(**settings)).fit(rows, FitContext(0))


def test_identical_images_are_a_collapse():
    rows = synthetic_rows((30, 0))
    rows.base.patches[:] = rows.base.patches[:1]
    with pytest.raises(MemberCollapsedError, match="patchcore: collapsed"):
        PatchCore(PatchCoreSettings(bank_size=10)).fit(rows, FitContext(0))
