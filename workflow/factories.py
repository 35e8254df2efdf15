"""Constructors of members; the place where workflow meets torch."""

from __future__ import annotations

from contracts.member import Member
from features.settings import TrunkSettings
from oneclass.from_anomalib.settings import AnomalibSettings
from oneclass.settings import DeepSVDDSettings, PatchCoreSettings
from supervised.settings import CnnSettings


def patchcore(settings: PatchCoreSettings, trunk: TrunkSettings) -> Member:  # noqa: ARG001
    """PatchCore on the trunk's patches."""
    from oneclass.patchcore import PatchCore

    return PatchCore(settings)


def deep_svdd(settings: DeepSVDDSettings, trunk: TrunkSettings) -> Member:  # noqa: ARG001
    """Deep SVDD on the trunk's patches."""
    from oneclass.deep_svdd import DeepSVDD

    return DeepSVDD(settings)


def anomalib_model(settings: AnomalibSettings, trunk: TrunkSettings) -> Member:  # noqa: ARG001
    """One of anomalib's image models, on pixels."""
    from oneclass.from_anomalib.member import AnomalibMember

    return AnomalibMember(settings)


def cnn(settings: CnnSettings, trunk: TrunkSettings) -> Member:
    """A head on the trunk, or a whole CNN that starts from the trunk's weights, trained or frozen."""
    if settings.tune == "full":
        from supervised.tuned import TunedCnn

        return TunedCnn(settings, trunk)
    if settings.tune == "linear":
        from supervised.linear import LinearCnn

        return LinearCnn(settings, trunk)
    from supervised.head import HeadCnn

    return HeadCnn(settings)
