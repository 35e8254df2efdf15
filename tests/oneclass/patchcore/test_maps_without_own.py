"""Maps of training images, as if the bank lacked their own patches."""

from __future__ import annotations

import numpy as np
import torch

from contracts.member import ExplainingMember, FitContext
from oneclass.patchcore.member import PatchCore
from oneclass.patchcore.module import PatchCoreModule
from oneclass.patchcore.settings import PatchCoreSettings
from tests.rows import synthetic_rows


def fitted() -> PatchCore:
    return PatchCore(PatchCoreSettings(bank_size=80, pca_dim=4)).fit(synthetic_rows((40, 5)), FitContext(0))


def test_an_images_own_patches_do_not_count():
    member, rows = fitted(), synthetic_rows((40, 5))
    assert isinstance(member, ExplainingMember)
    maps = member.maps_without_own(rows)
    module, origin = member.raw_module(), member.origin
    patches = torch.from_numpy(np.concatenate(list(rows.patches())))
    usual = module.means(patches)[1].numpy()
    assert maps.shape == usual.shape
    for i, digest in enumerate(rows.digests.tolist()):
        others = torch.from_numpy(origin.sha256[origin.image] != digest)
        smaller = PatchCoreModule(
            member.settings, module.mean, module.projection, module.bank[others], module.grid
        )
        np.testing.assert_allclose(maps[i], smaller.means(patches[i : i + 1])[1][0], atol=1e-4)
    # Somewhere it must matter, and nowhere can fewer patches bring an image nearer.
    assert (maps - usual).max() > 0.1
    assert (maps - usual).min() > -1e-4


def test_maps_of_strangers_are_those_of_the_module():
    everything = synthetic_rows((50, 5))
    member = PatchCore(PatchCoreSettings(bank_size=80, pca_dim=4))
    member.fit(everything.subset(np.r_[0:40, 50:55]), FitContext(0))
    rows = everything.subset(np.arange(40, 50))
    patches = torch.from_numpy(np.concatenate(list(rows.patches())))
    usual = member.raw_module().means(patches)[1].numpy()
    np.testing.assert_array_equal(member.maps_without_own(rows), usual)
