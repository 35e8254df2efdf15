"""The CNN member: which class a member of this type is depends on its setting ``tune``."""

from __future__ import annotations

from contracts.member import Member
from features.settings import BackboneSettings
from supervised.settings import CnnSettings


def cnn_member(settings: CnnSettings, backbone: BackboneSettings) -> Member:
    """A head on the backbone, or a whole CNN that starts from the backbone's weights, trained or frozen.

    One member type for all three, so that a recipe can turn any loss or sampler from a head into a whole CNN
    by ``tune: full``. Imports stand inside, because a head needs no training loop.
    """
    if settings.tune == "full":
        from supervised.whole_cnn.tuned import TunedCnn

        return TunedCnn(settings, backbone)
    if settings.tune == "linear":
        from supervised.whole_cnn.linear import LinearCnn

        return LinearCnn(settings, backbone)
    from supervised.head import HeadCnn

    return HeadCnn(settings, backbone)
