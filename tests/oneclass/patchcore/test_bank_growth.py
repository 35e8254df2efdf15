"""A bank that grows: what greedy selection would have gone on to take, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contracts.errors import ModelError
from contracts.member import ExplainingMember, FitContext, GrowingMember
from oneclass.patchcore.bank_growth import cover_radius_of, patches_to_add
from oneclass.patchcore.coreset import k_center_greedy
from oneclass.patchcore.member import PatchCore
from oneclass.patchcore.settings import PatchCoreSettings
from tests.rows import synthetic_rows


def slow_growth(bank, patches):
    """One patch at a time, all distances anew, in double precision."""
    bank, patches = bank.double(), patches.double()
    among = torch.cdist(bank, bank) + torch.diag(torch.full((len(bank),), torch.inf))
    radius, added = float(among.min()), []
    while True:
        known = torch.cat([bank, patches[added]])
        nearest = torch.stack([(known - patch).norm(dim=1).min() for patch in patches])
        if float(nearest.max()) <= radius:
            return added
        added.append(int(nearest.argmax()))


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_growth_against_a_slow_version(shift):
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(400, 6, generator=generator)
    bank = points[k_center_greedy(points, 60, seed=0)]
    patches = shift + torch.randn(120, 6, generator=generator)
    added = patches_to_add(bank, patches)
    assert added.tolist() == slow_growth(bank, patches)
    grown = torch.cat([bank, patches[added]])
    # The invariant of greedy: what was covered stays covered, and the bank is as sparse as before.
    assert float(torch.cdist(patches, grown).amin(dim=1).max()) <= cover_radius_of(bank) * (1 + 1e-5)
    assert cover_radius_of(grown) >= cover_radius_of(bank) * (1 - 1e-5)


def test_what_the_bank_was_chosen_from_adds_nothing():
    points = torch.randn(300, 5, generator=torch.Generator().manual_seed(1))
    bank = points[k_center_greedy(points, 40, seed=0)]
    assert len(patches_to_add(bank, points)) == 0


def test_a_bank_of_one_patch_takes_every_different_one():
    bank, patches = torch.zeros(1, 2), torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    assert patches_to_add(bank, patches).tolist() == [3, 1]


@pytest.fixture
def member() -> PatchCore:
    return PatchCore(PatchCoreSettings(bank_size=80, pca_dim=4)).fit(synthetic_rows((40, 5)), FitContext(0))


def test_every_bank_patch_is_the_patch_that_its_origin_names(member):
    rows = synthetic_rows((40, 5))
    position = {digest: i for i, digest in enumerate(rows.digests)}
    [patches] = rows.patches(len(rows))
    module, origin = member.raw_module(), member.origin
    points = module.projected(torch.from_numpy(patches))
    for patch in range(len(module.bank)):
        image = position[origin.digest_of_patch(patch)]
        assert rows.labels[image] == 0
        torch.testing.assert_close(points[image, origin.cell[patch]], module.bank[patch])


def test_more_images_than_candidates_name_their_origin_too():
    rows = synthetic_rows((150, 0))
    member = PatchCore(PatchCoreSettings(candidate_patches=100, bank_size=30)).fit(rows, FitContext(0))
    position = {digest: i for i, digest in enumerate(rows.digests)}
    [patches] = rows.patches(len(rows))
    points = member.raw_module().projected(torch.from_numpy(patches))
    for patch, point in enumerate(member.raw_module().bank):
        image = position[member.origin.digest_of_patch(patch)]
        torch.testing.assert_close(points[image, member.origin.cell[patch]], point)


def test_new_normal_images_come_nearer_and_none_goes_farther(member):
    assert isinstance(member, GrowingMember)
    new, others = synthetic_rows((4, 0), seed=5), synthetic_rows((20, 20), seed=6)
    new.base.patches[:, :, 2:4, 2:4] += 9.0
    before, others_before = member.raw_score(new), member.raw_score(others)
    n_bank = len(member.raw_module().bank)
    added = member.add_normal(new)
    assert 0 < added <= 4 * 36
    assert len(member.raw_module().bank) == n_bank + added == len(member.origin.cell)
    # Scores are logarithms in units of normal images' spread.
    assert (member.raw_score(new) < before - 1.0).all()
    assert (member.raw_score(others) <= others_before + 1e-5).all()
    assert set(member.origin.sha256) >= set(new.digests[[0]])
    assert member.add_normal(new) == 0


def test_origin_survives_saving_and_a_state_without_it_is_refused(member):
    arrays, meta = member.state()
    again = PatchCore(member.settings).restore(arrays, meta)
    assert [again.origin.digest_of_patch(i) for i in range(80)] == [
        member.origin.digest_of_patch(i) for i in range(80)
    ]
    old = {name: array for name, array in arrays.items() if not name.startswith("origin")}
    with pytest.raises(ModelError, match="does not say which images its bank comes from"):
        PatchCore(member.settings).restore(old, meta)


@pytest.mark.parametrize("settings", [{"top_patches": 3}, {"image_score": "reweighted"}])
def test_deciding_patches_against_a_slow_version(settings):
    rows = synthetic_rows((40, 0))
    member = PatchCore(PatchCoreSettings(bank_size=80, pca_dim=4, **settings)).fit(rows, FitContext(0))
    [patches] = rows.subset(np.arange(1)).patches()
    assert isinstance(member, ExplainingMember)
    image, own = torch.from_numpy(patches[0]), str(rows.digests[0])
    module = member.raw_module()
    points, bank = module.projected(image[None])[0].double(), module.bank.double()
    table = [[float((point - known).norm()) for known in bank] for point in points]
    farthest_first = sorted(range(36), key=lambda cell: -min(table[cell]))
    found = member.deciding_patches(patches[0], 4, without=[own])
    assert [each.cell for each in found] == farthest_first[: 3 if "top_patches" in settings else 1]
    for each in found:
        row = table[each.cell]
        assert each.distance == pytest.approx(min(row))
        others = [i for i in range(80) if member.origin.digest_of_patch(i) != own]
        nearest = sorted(others, key=lambda i: row[i])[:4]
        assert [near.distance for near in each.nearest] == pytest.approx([row[i] for i in nearest])
        assert [near.cell for near in each.nearest] == member.origin.cell[nearest].tolist()
    # The patches that decide are those of the score.
    if "top_patches" in settings:
        score = module.means(image[None])[0][0, 0]
        assert np.mean([each.distance for each in found]) == pytest.approx(float(score), rel=1e-4, abs=1e-4)
