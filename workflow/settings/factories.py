"""Constructors of members; the place where workflow meets torch."""

from __future__ import annotations

from contracts.member import Member
from features.settings import BackboneSettings
from oneclass.from_anomalib.settings import AnomalibSettings
from oneclass.settings import (
    DeepSADPixelsSettings,
    DeepSADSettings,
    DeepSVDDPixelsSettings,
    DeepSVDDSettings,
    KnnSettings,
    MahalanobisSettings,
    MeanShiftedSettings,
    PatchCoreSettings,
)
from supervised.settings import CnnSettings


def patchcore(settings: PatchCoreSettings, backbone: BackboneSettings) -> Member:  # noqa: ARG001
    """PatchCore on the backbone's patches."""
    from oneclass.patchcore.member import PatchCore

    return PatchCore(settings)


def deep_svdd(settings: DeepSVDDSettings, backbone: BackboneSettings) -> Member:  # noqa: ARG001
    """Deep SVDD on the backbone's patches."""
    from oneclass.deep.deep_svdd import DeepSVDD

    return DeepSVDD(settings)


def deep_svdd_pixels(settings: DeepSVDDPixelsSettings, backbone: BackboneSettings) -> Member:  # noqa: ARG001
    """Deep SVDD from pixels."""
    from oneclass.deep.deep_svdd_pixels import DeepSVDDPixels

    return DeepSVDDPixels(settings)


def deep_sad(settings: DeepSADSettings, backbone: BackboneSettings) -> Member:  # noqa: ARG001
    """Deep SAD on the backbone's patches."""
    from oneclass.deep.deep_sad import DeepSAD

    return DeepSAD(settings)


def deep_sad_pixels(settings: DeepSADPixelsSettings, backbone: BackboneSettings) -> Member:  # noqa: ARG001
    """Deep SAD from pixels."""
    from oneclass.deep.deep_sad import DeepSADPixels

    return DeepSADPixels(settings)


def mahalanobis(settings: MahalanobisSettings, backbone: BackboneSettings) -> Member:  # noqa: ARG001
    """Mahalanobis distance on pooled features."""
    from oneclass.mahalanobis import Mahalanobis

    return Mahalanobis(settings)


def knn(settings: KnnSettings, backbone: BackboneSettings) -> Member:  # noqa: ARG001
    """Nearest neighbours on pooled features."""
    from oneclass.neighbours.knn import Knn

    return Knn(settings)


def mean_shifted(settings: MeanShiftedSettings, backbone: BackboneSettings) -> Member:
    """Nearest neighbours on features adapted from the backbone's."""
    from oneclass.neighbours.mean_shifted import MeanShifted

    return MeanShifted(settings, backbone)


def anomalib_model(settings: AnomalibSettings, backbone: BackboneSettings) -> Member:  # noqa: ARG001
    """One of anomalib's image models, on pixels."""
    from oneclass.from_anomalib.member import AnomalibMember

    return AnomalibMember(settings)


def cnn(settings: CnnSettings, backbone: BackboneSettings) -> Member:
    """A head on the backbone, or a whole CNN that starts from the backbone's weights, trained or frozen."""
    if settings.tune == "full":
        from supervised.tuned import TunedCnn

        return TunedCnn(settings, backbone)
    if settings.tune == "linear":
        from supervised.linear import LinearCnn

        return LinearCnn(settings, backbone)
    from supervised.head import HeadCnn

    return HeadCnn(settings)
