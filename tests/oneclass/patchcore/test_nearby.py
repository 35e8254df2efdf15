"""Patches compared only with bank patches of nearby places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from contracts.errors import DataError, ModelError
from contracts.member import FitContext
from features.tensors import BackboneFeatures
from oneclass.patchcore.bank_budget import bank_bytes_per_patch
from oneclass.patchcore.bank_growth import Cells, cover_radius_of, patches_to_add
from oneclass.patchcore.coreset import k_center_greedy
from oneclass.patchcore.member import PatchCore
from oneclass.patchcore.module import PatchCoreModule
from oneclass.patchcore.nearby import FarAway, Places, greedy_by_part
from oneclass.patchcore.settings import PatchCoreSettings
from tests.rows import ArrayRows, Base, synthetic_rows


@pytest.mark.parametrize(("grid", "radius"), [(1, 0), (6, 0), (6, 1), (7, 2), (14, 3), (5, 4), (5, 9)])
def test_parts_and_places_against_a_slow_version(grid, radius):
    places, cells = Places(grid, radius), np.arange(grid**2)
    near = [
        [abs(a // grid - b // grid) <= radius and abs(a % grid - b % grid) <= radius for b in cells]
        for a in cells
    ]
    of = torch.from_numpy(cells)
    assert (~places.are_apart(of, of)).tolist() == near
    assert (~FarAway(of, grid, radius)()).tolist() == near
    parts = places.part_of_cells(cells)
    assert set(parts) == set(range(places.n_parts))
    # All cells of a part are near each other, so that none is left without a patch of its part.
    assert all(near[a][b] for a in cells for b in cells if parts[a] == parts[b])


def slow_greedy(points, parts, size, seed):
    """Two of each part, and then whatever lies farthest from those taken of its own part."""
    taken = []
    for part in np.unique(parts):
        mine = np.flatnonzero(parts == part)
        taken += mine[k_center_greedy(points[mine], 2, seed).numpy()].tolist()
    points = points.double()
    while len(taken) < size:
        apart = torch.from_numpy(parts[:, None] != parts[taken])
        nearest = torch.cdist(points, points[taken]).masked_fill_(apart, torch.inf).amin(dim=1)
        taken.append(int(nearest.argmax()))
    return set(taken)


@pytest.mark.parametrize("size", [8, 9, 40, 150])
def test_selection_against_a_slow_version(size):
    """One part varies ten times as much as the others, and is given most of the bank."""
    generator = torch.Generator().manual_seed(0)
    parts = np.arange(400) % 4
    spread = torch.tensor([1.0, 0.1, 0.1, 0.2])[torch.from_numpy(parts)]
    points = torch.randn(400, 6, generator=generator) * spread[:, None]
    found = greedy_by_part(points, parts, size, seed=3)
    assert set(found.tolist()) == slow_greedy(points, parts, size, seed=3)
    assert len(found) == size
    counts = np.bincount(parts[found.numpy()])
    assert counts.min() >= 2
    if size == 40:
        assert counts[0] > 30


def test_copies_are_taken_once():
    parts = np.arange(60) % 3
    points = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
    points[parts == 1] = 5.0
    found = greedy_by_part(points, parts, 60, seed=0).numpy()
    assert sorted(np.bincount(parts[found])) == [1, 20, 20]


def module_and_patches(nearby, image_score="top_mean", n_bank=120, grid=6, **given):
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(n_bank, 10, generator=generator)
    cells = torch.arange(n_bank) % grid**2
    usual = 0.5 + torch.rand(n_bank, generator=generator)
    settings = PatchCoreSettings(image_score=image_score, nearby=nearby, **given)
    module = PatchCoreModule(settings, torch.zeros(10), None, bank, grid, usual, cells=cells)
    return module, torch.randn(3, 10, grid, grid, generator=generator)


def slow_distances(module, patches, cells, hidden=None):
    """``[N, P]`` distances and the bank patch each is to, by differences."""
    grid, radius = module.grid, module.settings.nearby
    table = np.zeros((len(patches), grid**2))
    nearest = np.zeros(table.shape, dtype=int)
    for n, image in enumerate(patches.flatten(start_dim=2).double()):
        for p in range(grid**2):
            near = [
                b
                for b in range(len(cells))
                if abs(p // grid - cells[b] // grid) <= radius and abs(p % grid - cells[b] % grid) <= radius
            ]
            if hidden is not None:
                near = [b for b in near if not hidden[n, b]] or near
            to_bank = (module.bank[near].double() - image[:, p]).norm(dim=1).numpy()
            table[n, p], nearest[n, p] = to_bank.min(), near[to_bank.argmin()]
    return table, nearest


@pytest.mark.parametrize("nearby", [0, 1, 4])
@pytest.mark.parametrize("image_score", ["top_mean", "top_or_all"])
def test_scores_and_map_against_a_slow_version(nearby, image_score, monkeypatch):
    monkeypatch.setattr("oneclass.patchcore.module._SLICE", 50)
    module, patches = module_and_patches(nearby, image_score)
    cells = [b % 36 for b in range(120)]
    expected, nearest = slow_distances(module, patches, cells)
    means, patch_map = module.means(patches)
    np.testing.assert_allclose(patch_map.flatten(start_dim=1), expected, rtol=1e-4)
    np.testing.assert_allclose(means[:, 0], np.sort(expected, axis=1)[:, -3:].mean(axis=1), rtol=1e-4)
    if image_score == "top_or_all":
        relative = (expected / module.usual.numpy()[nearest]).mean(axis=1)
        np.testing.assert_allclose(means[:, 1], relative, rtol=1e-4)
    # Of the first image all but one patch exist no more: where none of the others is near, its own count.
    hidden = torch.zeros(3, 120, dtype=torch.bool)
    hidden[0, 1:] = True
    expected, _ = slow_distances(module, patches, cells, hidden)
    np.testing.assert_allclose(module.means(patches, hidden)[1].flatten(start_dim=1), expected, rtol=1e-4)


def aligned_rows(n_good, n_bad, seed):
    """Two textures side by side; the odd images have a patch of the left one on the right."""
    rng = np.random.default_rng(seed)
    n = n_good + n_bad
    patches = rng.normal(size=(n, 8, 6, 6))
    patches[:, :4, :, :3] += 6.0
    patches[:, 4:, :, 3:] += 6.0
    patches[n_good:, :, 2, 5] = patches[n_good:, :, 2, 0]
    labels = (np.arange(n) >= n_good).astype(np.int64)
    images = np.zeros((n, 32, 32, 3), dtype=np.uint8)
    pooled = np.zeros((n, 4), dtype=np.float32)
    return ArrayRows(Base(labels, pooled, patches.astype(np.float16).astype(np.float32), images, 2, 32))


def fitted(nearby=1, **settings):
    given = PatchCoreSettings(bank_size=150, nearby=nearby, **settings)
    return PatchCore(given).fit(aligned_rows(40, 0, seed=0), FitContext(0))


def test_what_is_normal_elsewhere_is_odd_here():
    rows = aligned_rows(30, 30, seed=1)
    scores = {nearby: fitted(nearby).score(rows)[:, 0] for nearby in (None, 1)}
    pairs = {name: (x[30:, None] > x[:30]).mean() for name, x in scores.items()}
    assert pairs[1] > 0.99
    assert pairs[None] < 0.8
    _, maps = fitted(1).raw_module()(
        BackboneFeatures(torch.empty(0), torch.empty(0), torch.from_numpy(rows.base.patches[30:]))
    )
    assert (maps.flatten(start_dim=1).argmax(dim=1) == 2 * 6 + 5).all()


def test_scores_are_on_the_scale_of_new_normal_images():
    """The reference leaves out an image's own patches at each place; the mean of several fits."""
    settings = PatchCoreSettings(bank_size=150, nearby=1)
    found = []
    for seed in range(5):
        member = PatchCore(settings).fit(aligned_rows(40, 0, seed), FitContext(seed))
        new = member.score(aligned_rows(60, 0, seed + 100))
        found.append((new.mean(), new.std()))
    mean, spread = np.mean(found, axis=0)
    assert abs(mean) < 0.5
    assert 0.7 < spread < 1.4


def test_every_place_keeps_patches_of_the_bank():
    member = fitted(nearby=1)
    parts = Places(6, 1).part_of_cells(member.origin.cell)
    assert np.bincount(parts, minlength=9).min() >= 2
    assert not member.raw_module().far().all(dim=1).any()


def test_a_radius_that_takes_in_all_changes_nothing():
    everywhere, anywhere = fitted(nearby=5), fitted(nearby=None)
    rows = aligned_rows(5, 5, seed=1)
    np.testing.assert_array_equal(everywhere.origin.cell, anywhere.origin.cell)
    np.testing.assert_allclose(everywhere.score(rows), anywhere.score(rows), rtol=1e-5)


def test_it_is_saved_explained_and_grown_by_place():
    member, rows = fitted(nearby=1), aligned_rows(3, 3, seed=1)
    again = PatchCore(member.settings).restore(*member.state())
    np.testing.assert_array_equal(again.score(rows), member.score(rows))
    [patches] = rows.patches()
    for each in member.deciding_patches(patches[3], n_nearest=5):
        assert each.nearest
        assert each.distance == pytest.approx(each.nearest[0].distance)
        for near in each.nearest:
            assert abs(near.cell // 6 - each.cell // 6) <= 1
            assert abs(near.cell % 6 - each.cell % 6) <= 1
    assert member.deciding_patches(patches[3], 1)[0].cell == 2 * 6 + 5
    assert np.isfinite(member.maps_without_own(aligned_rows(40, 0, seed=0))).all()
    before = member.raw_score(rows)
    # What lies on the left of the bank is missing on the right.
    assert member.add_normal(rows.subset(np.arange(3, 6))) > 0
    assert len(member.raw_module().bank) == len(member.origin.cell)
    after = member.raw_score(rows)
    assert (after[3:] < before[3:]).all()
    assert (after <= before + 1e-5).all()
    assert member.add_normal(rows.subset(np.arange(3, 6))) == 0
    grown = PatchCore(member.settings).restore(*member.state())
    np.testing.assert_array_equal(grown.raw_score(rows), after)


def test_growth_against_a_slow_version():
    generator = torch.Generator().manual_seed(0)
    places = Places(4, 0)
    bank, of_bank = torch.randn(64, 5, generator=generator), torch.arange(64) % 16
    new, of_new = 2.0 * torch.randn(32, 5, generator=generator), torch.arange(32) % 16
    cells = Cells(places, of_bank, of_new)
    radius = min(
        float((bank[a] - bank[b]).norm()) for a in range(64) for b in range(a) if of_bank[a] == of_bank[b]
    )
    assert cover_radius_of(bank, cells) == pytest.approx(radius)
    known = [(bank[i], int(of_bank[i])) for i in range(64)]
    expected = []
    while True:
        to_known = [
            min(float((new[p] - point).norm()) for point, cell in known if cell == of_new[p])
            for p in range(32)
        ]
        farthest = int(np.argmax(to_known))
        if to_known[farthest] <= radius:
            break
        expected.append(farthest)
        known.append((new[farthest], int(of_new[farthest])))
    assert expected
    assert patches_to_add(bank, new, cells).tolist() == expected
    assert cover_radius_of(bank[:16], cells._replace(of_bank=of_bank[:16])) == 0.0


def test_what_cannot_be_is_said():
    rows = synthetic_rows((20, 0))
    with pytest.raises(
        DataError,
        match=r"nearby=0 divides the picture into 36 parts, and the bank has room for 50 patches, fewer than "
        r"2 of each\. Give it 72, or raise nearby\.",
    ):
        PatchCore(PatchCoreSettings(nearby=0, bank_size=50)).fit(rows, FitContext(0))
    with pytest.raises(DataError, match=r"and the 100 candidates leave \d+ of them empty\. Raise candidate_"):
        PatchCore(PatchCoreSettings(nearby=0, bank_size=80, candidate_patches=100)).fit(
            synthetic_rows((100, 0)), FitContext(1)
        )
    for image_score in ("knn_mean", "reweighted"):
        with pytest.raises(ValidationError, match=f"{image_score} asks for several neighbours"):
            PatchCoreSettings(nearby=2, image_score=image_score)
    with pytest.raises(ModelError, match="nearby needs the size of the patch grid and the bank's places"):
        PatchCoreModule(PatchCoreSettings(nearby=1), torch.zeros(4), None, torch.zeros(12, 4), 3)


def test_rows_of_which_a_part_lives_alone_keep_it():
    """Held out for the scale, they would leave nothing to compare that part with."""
    rows = synthetic_rows((120, 0))
    settings = PatchCoreSettings(nearby=2, bank_size=30, candidate_patches=120)
    member = PatchCore(settings).fit(rows, FitContext(0))
    assert np.isfinite(member.score(rows)).all()


def test_without_it_keys_are_as_they_were():
    assert "nearby" not in PatchCoreSettings().model_dump(mode="json")
    near = PatchCoreSettings(nearby=0)
    assert near.model_dump(mode="json")["nearby"] == 0
    assert PatchCoreSettings(**near.model_dump()) == near


def test_a_bank_of_so_many_bytes_counts_its_places():
    plain, near = (
        bank_bytes_per_patch(PatchCoreSettings(nearby=nearby), 100, grid=14) for nearby in (None, 2)
    )
    # A bool for each row and each column of the grid.
    assert near == plain + 28
    assert bank_bytes_per_patch(PatchCoreSettings(nearby=2), 100, grid=4) == plain + 16


def test_with_other_options():
    """A budget in bytes or milliseconds, contamination, whitening."""
    rows = synthetic_rows((60, 5))
    for given in (
        {"bank_mb": 0.01},
        {"bank_ms": 5.0},
        {"bank_ratio": 0.05, "contamination_z": 3.5},
        {"bank_size": 100, "whiten": True, "neighbourhood": 3, "map_size": 12},
    ):
        member = PatchCore(PatchCoreSettings(nearby=2, **given)).fit(rows, FitContext(0))
        assert np.isfinite(member.score(rows)).all()
