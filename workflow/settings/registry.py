"""Members by type name. A new member is one file and one entry here; see CONTRIBUTING.md.

An entry names classes as text and imports them only when they are used, so that listing the members and
checking a recipe needs no torch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

from contracts.errors import UsageError, nearest_match
from contracts.member import Member, MemberKind
from features.settings import BackboneSettings
from oneclass.from_anomalib.catalogue import PREFIX as ANOMALIB_PREFIX
from oneclass.from_anomalib.catalogue import image_model_named

BASELINE = "cnn"
"""The member that, calibrated and with a tuned threshold, is the calibrated baseline."""


@dataclass(frozen=True)
class MemberEntry:
    """Where to find a member and its settings.

    Attributes:
        kind: one-class, semi-supervised or supervised (:data:`contracts.member.MemberKind`); the same as the
            member class says, which would need torch.
        member: ``module:Class`` of the member; it is called with (settings, backbone).
        settings: ``module:Class`` of its settings model. Importing that module must not import torch.
        summary: one line for people.
        defaults: settings that this type stands for; a recipe may change each of them.
        seconds_per_row: time per training row of one fit on two cores, for ``--dry-run``. It is rough: it
            tells minutes from hours.
        learns_from_views: whether it learns from views of training images (:mod:`imagedata.views`) as well,
            by what ``docs/results/views.md`` measured.
        revision: raised when the member's code changes so that its old results must not be reused; those of
            other members stay valid.
        least_labels: independent images of the minority from which on it is trained; one-class members need
            none.
    """

    kind: MemberKind
    member: str
    settings: str
    summary: str
    defaults: dict[str, Any] = field(default_factory=dict)
    seconds_per_row: float = 0.005
    learns_from_views: bool = False
    revision: int = 0
    least_labels: int = 1


def _cnn(summary: str, **defaults: Any) -> MemberEntry:
    """A CNN member with these settings; a head, or with ``tune: full`` or ``linear`` a whole CNN."""
    seconds = {"full": 0.3, "linear": 0.3}.get(defaults.get("tune", "head"), 0.0005)
    return MemberEntry(
        kind="supervised",
        member="supervised.cnn:cnn_member",
        settings="supervised.settings:CnnSettings",
        summary=summary,
        defaults=defaults,
        seconds_per_row=seconds,
        learns_from_views=defaults.get("tune", "head") == "head",
        revision=1,
    )


MEMBERS: dict[str, MemberEntry] = {
    "patchcore": MemberEntry(
        kind="oneclass",
        member="oneclass.patchcore.member:PatchCore",
        settings="oneclass.patchcore.settings:PatchCoreSettings",
        summary="distance of patches to a bank of majority patches (Roth 2022)",
        seconds_per_row=0.008,
        revision=2,
    ),
    "deep_svdd": MemberEntry(
        kind="oneclass",
        member="oneclass.deep.deep_svdd:DeepSVDD",
        settings="oneclass.deep.settings:DeepSVDDSettings",
        summary="distance from the centre that a bias-free network pulls the majority to (after Ruff 2018)",
        seconds_per_row=0.008,
        revision=1,
        learns_from_views=True,
    ),
    "deep_svdd_pixels": MemberEntry(
        kind="oneclass",
        member="oneclass.deep.deep_svdd_pixels:DeepSVDDPixels",
        settings="oneclass.deep.settings:DeepSVDDPixelsSettings",
        summary="Deep SVDD as published: a small CNN on pixels, pre-trained as an autoencoder (Ruff 2018)",
        seconds_per_row=0.4,
        revision=1,
    ),
    "deep_sad": MemberEntry(
        kind="semisupervised",
        member="oneclass.deep.deep_sad:DeepSAD",
        settings="oneclass.deep.settings:DeepSADSettings",
        summary="Deep SVDD that pushes the minority's training rows away from the centre (Ruff 2020)",
        seconds_per_row=0.008,
        revision=1,
        learns_from_views=True,
    ),
    "deep_sad_pixels": MemberEntry(
        kind="semisupervised",
        member="oneclass.deep.deep_sad:DeepSADPixels",
        settings="oneclass.deep.settings:DeepSADPixelsSettings",
        summary="Deep SAD on pixels, pre-trained as an autoencoder (Ruff 2020)",
        seconds_per_row=0.4,
        revision=1,
    ),
    "mahalanobis": MemberEntry(
        kind="oneclass",
        member="oneclass.mahalanobis:Mahalanobis",
        settings="oneclass.mahalanobis:MahalanobisSettings",
        summary="Mahalanobis distance of pooled features, with a shrunk covariance (Rippel 2021)",
        seconds_per_row=0.002,
        revision=1,
    ),
    "subspace": MemberEntry(
        kind="oneclass",
        member="oneclass.subspace:Subspace",
        settings="oneclass.subspace:SubspaceSettings",
        summary="residual of coarsely pooled patches off the majority's principal components (Ahuja 2019)",
        seconds_per_row=0.002,
        revision=1,
        learns_from_views=True,
    ),
    "knn": MemberEntry(
        kind="oneclass",
        member="oneclass.neighbours.knn:Knn",
        settings="oneclass.neighbours.settings:KnnSettings",
        summary="mean distance of pooled features to the nearest majority rows (DN2, Bergman 2020)",
        seconds_per_row=0.001,
        revision=1,
    ),
    "mean_shifted": MemberEntry(
        kind="oneclass",
        member="oneclass.neighbours.mean_shifted:MeanShifted",
        settings="oneclass.neighbours.settings:MeanShiftedSettings",
        summary="nearest majority rows, after the backbone's last stage is adapted by contrast (Reiss 2021)",
        seconds_per_row=0.3,
    ),
    "patch_head": MemberEntry(
        kind="supervised",
        member="supervised.patch_head.member:PatchHead",
        settings="supervised.patch_head.settings:PatchHeadSettings",
        summary="a small network on each patch and its residual off normal ones; the highest patches count",
        # From one image it learns that image: on faces and steel it loses to a pooled head by far there.
        least_labels=2,
        seconds_per_row=0.008,
        revision=2,
    ),
    "cnn": _cnn("plain cross-entropy; with calibration and a tuned threshold the calibrated baseline"),
    "cnn_weighted": _cnn("cross-entropy with inverse-frequency class weights", loss="weighted_cross_entropy"),
    "cnn_effective": _cnn(
        "cross-entropy weighted by the effective number of samples (Cui 2019)",
        loss="weighted_cross_entropy",
        weights="effective",
    ),
    "cnn_smoothed": _cnn("cross-entropy with label smoothing 0.1 (Szegedy 2016)", smoothing=0.1),
    "cnn_focal": _cnn("focal loss, which emphasises hard rows (Lin 2017)", loss="focal"),
    "cnn_asymmetric_focal": _cnn(
        "focal loss on majority rows only (after Ridnik 2021)", loss="asymmetric_focal"
    ),
    "cnn_ldam": _cnn(
        "a larger margin for the rarer class, class weights late in training (LDAM-DRW, Cao 2019)",
        loss="ldam",
    ),
    "cnn_logit_adjusted": _cnn(
        "logits shifted by the class shares: balanced softmax (Menon 2021, Ren 2020)",
        loss="logit_adjustment",
    ),
    "cnn_cosine": _cnn(
        "cosines to directions that start at the class means, shifted by the shares (LIFT, Shi 2024)",
        loss="logit_adjustment",
        classifier="cosine",
        l2=300.0,
    ),
    "cnn_vs": _cnn("logits shifted and scaled by the class shares (VS-loss, Kini 2021)", loss="vs"),
    "cnn_soft_f1": _cnn("one minus differentiable macro F1", loss="soft_f1"),
    "cnn_auc": _cnn("AUC by squared margins of class means (Yuan 2021); it only ranks", loss="auc_margin"),
    "cnn_partial_auc": _cnn(
        "one-way partial AUC: majority rows near the minority count most (Zhu 2022); it only ranks",
        loss="partial_auc",
        temperature=0.1,
    ),
    "cnn_undersampled": _cnn(
        "majority rows dropped once, down to the minority's number", sampler={"kind": "undersample"}
    ),
    "cnn_undersampled_each_epoch": _cnn(
        "a new draw of majority rows each epoch; for heads, the mean of several (EasyEnsemble, Liu 2009)",
        sampler={"kind": "undersample_each_epoch"},
    ),
    "cnn_oversampled": _cnn(
        "minority rows repeated up to the majority's number", sampler={"kind": "oversample"}
    ),
    "cnn_oversampled_focal": _cnn(
        "minority rows repeated up to half the majority's number, with focal loss",
        sampler={"kind": "oversample", "cap": 0.5},
        loss="focal",
    ),
    "cnn_class_balanced": _cnn(
        "batches that contain every class equally often", sampler={"kind": "class_balanced"}
    ),
    "cnn_square_root": _cnn(
        "classes drawn by the square roots of their sizes (Mahajan 2018)", sampler={"kind": "square_root"}
    ),
    "cnn_progressive": _cnn(
        "from the classes' own shares to equal ones in the course of training (Kang 2020)",
        sampler={"kind": "progressive"},
    ),
    "cnn_smote": _cnn(
        "synthetic features between minority rows and their neighbours (SMOTE, Chawla 2002)",
        synthetic={"space": "features", "sampler": "smote"},
    ),
    "cnn_adasyn": _cnn(
        "synthetic features where minority rows are near other classes (ADASYN, He 2008)",
        synthetic={"space": "features", "sampler": "adasyn"},
    ),
    "cnn_deep_smote": _cnn(
        "a whole CNN with synthetic minority images from an autoencoder (after DeepSMOTE, Dablain 2021)",
        tune="full",
        synthetic={"space": "images"},
    ),
    "cnn_tuned": _cnn("a whole CNN fine-tuned with plain cross-entropy", tune="full"),
    "cnn_augmented": _cnn(
        "a whole CNN on images randomly rotated (20 degrees), zoomed (0.15), shifted (0.2), sheared (0.15)",
        tune="full",
        augment={"rotation": 20.0, "zoom": 0.15, "shift": 0.2, "shear": 0.15},
    ),
    "cnn_cutmix": _cnn(
        "a whole CNN on images with rectangles pasted in from others (Yun 2019)",
        tune="full",
        augment={"mix": "cutmix"},
    ),
    "cnn_mixup_drw": _cnn(
        "a whole CNN on blended pairs, class weights late in training (Zhang 2018, Cao 2019)",
        tune="full",
        augment={"mix": "mixup"},
        loss="weighted_cross_entropy",
        deferred_until=0.8,
    ),
    "cnn_augmix": _cnn(
        "a whole CNN on images mixed with randomly transformed versions (Hendrycks 2020)",
        tune="full",
        augment={"augmix": True},
    ),
    "cnn_erasing": _cnn(
        "a whole CNN on images with random rectangles blanked (Zhong 2020)",
        tune="full",
        augment={"erasing": 0.5},
    ),
    "cnn_sam": _cnn(
        "a whole CNN by sharpness-aware minimisation (Foret 2021), two passes per step",
        tune="full",
        optimiser={"sam": 0.05},
    ),
    "cnn_simclr": _cnn(
        "a whole CNN fine-tuned after SimCLR on the training images without labels (Chen 2020)",
        tune="full",
        simclr={},
    ),
    "cnn_simclr_linear": _cnn(
        "a linear head on a CNN trained only by SimCLR: linear evaluation (Chen 2020)",
        tune="linear",
        simclr={},
    ),
    "cnn_crt": _cnn(
        "a whole CNN whose classifier is then refitted with balanced classes (cRT, Kang 2020)",
        tune="full",
        retrain={"method": "crt"},
    ),
    "cnn_tau_norm": _cnn(
        "a whole CNN whose class vectors are then divided by a power of their norm (Kang 2020)",
        tune="full",
        retrain={"method": "tau_norm"},
    ),
    "cnn_lws": _cnn(
        "a whole CNN whose class scores are then scaled by learned factors (LWS, Kang 2020)",
        tune="full",
        retrain={"method": "lws"},
    ),
}


def entry_of(member_type: str) -> MemberEntry:
    """Look up a member type: a key of :data:`MEMBERS`, or ``anomalib:NAME``.

    Raises:
        UsageError: there is no such type; the message suggests the nearest.
        ModelError: it is one of anomalib's models, but anomalib is not installed.
    """
    if member_type.startswith(ANOMALIB_PREFIX):
        return _anomalib_entry(member_type.removeprefix(ANOMALIB_PREFIX))
    if member_type not in MEMBERS:
        raise UsageError(
            f"member type '{member_type}' does not exist.{nearest_match(member_type, MEMBERS)} "
            f"Use one of {', '.join(MEMBERS)}, or {ANOMALIB_PREFIX}NAME."
        )
    return MEMBERS[member_type]


def _anomalib_entry(name: str) -> MemberEntry:
    """Any image model of anomalib; ``docs/results/anomalib-models.md`` says what each of them can do."""
    model = image_model_named(name)
    return MemberEntry(
        kind="oneclass",
        member="oneclass.from_anomalib.member:AnomalibMember",
        settings="oneclass.from_anomalib.settings:AnomalibSettings",
        summary=f"anomalib's {model.class_name}, trained on majority images by anomalib itself",
        defaults={"model": model.name},
        seconds_per_row=0.3,
        revision=1,
    )


def settings_class(member_type: str) -> Any:
    """The settings model of a member type; imports no torch."""
    return _load(entry_of(member_type).settings)


def build_member(member_type: str, settings: Any, backbone: BackboneSettings) -> Member:
    """An unfitted member; this imports torch.

    Args:
        member_type: a key of :data:`MEMBERS`, or ``anomalib:NAME``.
        settings: an instance of its settings model.
        backbone: the backbone whose features it will read.
    """
    member: Member = _load(entry_of(member_type).member)(settings, backbone)
    return member


def _load(place: str) -> Any:
    """What ``module:name`` stands for."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)
