"""Deep SVDD: what keeps the sphere from collapsing, and what happens when it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contracts.errors import MemberCollapsedError
from contracts.member import FitContext
from oneclass.deep import deep_svdd, sphere
from oneclass.deep.deep_svdd import DeepSVDD, DeepSVDDModule, standard_cells
from oneclass.deep.settings import DeepSVDDSettings
from tests.rows import synthetic_rows

SMALL = {"hidden": 16, "embedding_dim": 8, "epochs": 3, "batch_size": 16}


def fitted(rows=None, report=lambda sentence: None, **settings):
    member = DeepSVDD(DeepSVDDSettings(**{**SMALL, **settings}))
    return member.fit(synthetic_rows() if rows is None else rows, FitContext(3, report=report))


def test_no_layer_has_a_bias():
    module = DeepSVDDModule(DeepSVDDSettings(), torch.zeros(8), torch.ones(8))
    names = [name for name, _ in module.named_parameters()]
    assert names
    assert not [name for name in names if "bias" in name]
    # With no bias and a leaky ReLU the network is homogeneous: zero in, zero out.
    assert module.embed(torch.zeros(2, 9, 8)).abs().max() == 0.0


def test_default_centre_is_nowhere_near_what_zero_weights_reach():
    centre = fitted().raw_module().centre
    assert (centre.abs() >= 0.1).all()


def test_centre_is_the_mean_embedding_before_training(monkeypatch):
    seen = {}
    original = sphere.initial_centre

    def spy(module, loader):
        # The first network is the one that is kept; those after it are for the scale of the scores.
        seen.setdefault("embeddings", torch.cat([module.embed(batch.inputs) for batch in loader]).detach())
        return original(module, loader)

    monkeypatch.setattr(sphere, "initial_centre", spy)
    centre = fitted().raw_module().centre
    mean = seen["embeddings"].mean(dim=0)
    assert len(seen["embeddings"]) == 60  # majority rows only
    far = mean.abs() >= 0.1
    torch.testing.assert_close(centre[far], mean[far])
    assert (centre[~far].abs() == np.float32(0.1)).all()
    assert (torch.sign(centre[~far]) == torch.where(mean[~far] < 0, -1.0, 1.0)).all()


@pytest.mark.parametrize("objective", ["one_class", "soft_boundary"])
@pytest.mark.parametrize("nu", [0.05, 0.3])
def test_radius_is_the_quantile_of_the_fitted_distances(objective, nu):
    rows = synthetic_rows()
    member = fitted(rows, objective=objective, nu=nu, warm_up_epochs=1)
    distances = member.raw_score(rows.subset(np.flatnonzero(rows.labels == 0)))[:, 0]
    radius = float(member.raw_module().radius)
    assert radius > 0
    assert radius == pytest.approx(np.quantile(distances, 1 - nu), rel=1e-4)


def test_training_draws_the_majority_together():
    rows = synthetic_rows()
    short, long = fitted(rows, epochs=1), fitted(rows, epochs=12)
    assert short.raw_module().centre.equal(long.raw_module().centre)
    normal = rows.subset(np.flatnonzero(rows.labels == 0))
    assert long.raw_score(normal).mean() < 0.75 * short.raw_score(normal).mean()


def test_soft_boundary_is_another_objective_after_the_warm_up():
    rows = synthetic_rows()
    one_class, soft = fitted(rows), fitted(rows, objective="soft_boundary", warm_up_epochs=1)
    still_warming = fitted(rows, objective="soft_boundary", warm_up_epochs=50)
    assert not np.array_equal(one_class.score(rows), soft.score(rows))
    assert np.array_equal(one_class.score(rows), still_warming.score(rows))


def test_cells_are_standardised_over_the_majority_alone():
    rows = synthetic_rows((60, 60), strength=4.0)
    module = fitted(rows).raw_module()
    [patches] = rows.subset(np.flatnonzero(rows.labels == 0)).patches()
    cells = standard_cells(torch.from_numpy(patches), module.mean, module.std)
    assert cells.shape == (60, 9, 8)
    torch.testing.assert_close(cells.mean(dim=(0, 1)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(cells.std(dim=(0, 1), correction=0), torch.ones(8), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("grid", "side"), [(1, 1), (2, 1), (3, 2), (7, 4), (14, 7)])
def test_halved_grid_leaves_no_cell_out(grid, side):
    coarse = standard_cells(torch.zeros(1, 2, grid, grid), torch.zeros(2), torch.ones(2))
    assert coarse.shape == (1, side * side, 2)
    for place in range(grid * grid):
        patches = torch.zeros(1, 2, grid * grid)
        patches[:, :, place] = 1.0
        patches = patches.reshape(1, 2, grid, grid)
        assert standard_cells(patches, torch.zeros(2), torch.ones(2)).abs().max() > 0


def test_a_channel_that_is_silent_on_the_majority_does_not_drown_the_others():
    rows = synthetic_rows()
    rows.base.patches[rows.labels == 0, 3] = 0.0
    member = fitted(rows)
    assert member.raw_module().std[3] == 1.0
    assert member.raw_score(rows).max() < 100.0


def test_kept_and_streamed_cells_give_the_same_member(monkeypatch):
    rows = synthetic_rows()
    kept = fitted(rows)
    monkeypatch.setattr(deep_svdd, "_PRELOAD_BYTES", 0)
    streamed = fitted(rows)
    np.testing.assert_allclose(streamed.score(rows), kept.score(rows), rtol=1e-5)


def test_constant_rows_collapse_after_every_initialisation():
    rows = synthetic_rows()
    rows.base.patches[:] = rows.base.patches[:1]
    sentences = []
    with pytest.raises(MemberCollapsedError, match=r"deep_svdd: collapsed.* 3 initialisations were tried"):
        fitted(rows, report=sentences.append)
    assert len(sentences) == 2
    assert all("Trying other initial weights" in sentence for sentence in sentences)


def test_a_centre_at_the_origin_is_refused_and_the_next_initialisation_is_taken(monkeypatch):
    original, calls = sphere.initial_centre, []

    def zero_once(module, loader):
        calls.append(module.of_image.weight.detach().clone())
        centre = original(module, loader)
        return torch.zeros_like(centre) if len(calls) == 1 else centre

    monkeypatch.setattr(sphere, "initial_centre", zero_once)
    sentences = []
    member = fitted(report=sentences.append)
    assert len(calls) == 2 + 3  # and three for the scale of the scores
    assert not calls[0].equal(calls[1])
    assert sentences == [
        "deep_svdd: the centre is the origin, which all-zero weights reach. Trying other initial weights."
    ]
    assert np.isfinite(member.score(synthetic_rows())).all()


def test_a_failed_fit_leaves_no_half_fitted_member(monkeypatch):
    monkeypatch.setattr(sphere, "initial_centre", lambda module, loader: torch.zeros_like(module.centre))
    member = DeepSVDD(DeepSVDDSettings(**SMALL, attempts=1))
    with pytest.raises(MemberCollapsedError, match=r"origin.* 1 initialisations"):
        member.fit(synthetic_rows(), FitContext(0))
    assert member._module is None


def test_the_number_of_threads_does_not_change_the_network():
    threads = torch.get_num_threads()
    states = []
    for n in (1, 2):
        torch.set_num_threads(n)
        try:
            states.append(fitted().state()[0])
            assert torch.get_num_threads() == n
        finally:
            torch.set_num_threads(threads)
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_one_majority_row_is_enough_to_fit():
    rows = synthetic_rows((1, 3))
    assert fitted(rows).score(rows).shape == (4, 1)
