"""Members by type name. A new member is one file and one line here.

The modules behind the entries are imported only when a member is built, so that listing and checking
a recipe needs no torch.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from contracts.errors import UsageError, nearest_match
from contracts.member import Member, MemberKind
from features.settings import BackboneSettings
from oneclass.from_anomalib.catalogue import PREFIX as ANOMALIB_PREFIX
from oneclass.from_anomalib.catalogue import facts_of

BASELINE = "cnn"
"""The member that, calibrated and with a tuned threshold, is the calibrated baseline."""


@dataclass(frozen=True)
class MemberEntry:
    """How to find a member.

    Attributes:
        kind: one-class, semi-supervised or supervised; see :data:`contracts.member.MemberKind`.
        settings: ``module:Class`` of its settings model.
        factory: ``module:function`` of this package's :mod:`workflow.settings.factories`.
        defaults: settings that this name stands for.
        summary: one line for people.
        seconds_per_row: what a training row costs in one fit on two cores, for ``--dry-run``; rough by
            nature, it tells minutes from hours.
    """

    kind: MemberKind
    settings: str
    factory: str
    defaults: dict[str, Any]
    summary: str
    seconds_per_row: float = 0.005


def _cnn(summary: str, **defaults: Any) -> MemberEntry:
    """A CNN member that stands for some settings; as a head or, with ``tune: full``, as a whole CNN."""
    settings = "supervised.settings:CnnSettings"
    seconds = {"full": 0.3, "linear": 0.3}.get(defaults.get("tune", "head"), 0.0005)
    return MemberEntry("supervised", settings, "cnn", defaults, summary, seconds_per_row=seconds)


MEMBERS: dict[str, MemberEntry] = {
    "patchcore": MemberEntry(
        "oneclass",
        "oneclass.settings:PatchCoreSettings",
        "patchcore",
        {},
        "distance of patches to a bank of majority patches",
    ),
    "deep_svdd": MemberEntry(
        "oneclass",
        "oneclass.settings:DeepSVDDSettings",
        "deep_svdd",
        {},
        "distance from the centre that a bias-free network draws the majority to",
    ),
    "deep_svdd_pixels": MemberEntry(
        "oneclass",
        "oneclass.settings:DeepSVDDPixelsSettings",
        "deep_svdd_pixels",
        {},
        "Deep SVDD as published: a small CNN from pixels, pre-trained as an autoencoder (Ruff 2018)",
        seconds_per_row=0.08,
    ),
    "deep_sad": MemberEntry(
        "semisupervised",
        "oneclass.settings:DeepSADSettings",
        "deep_sad",
        {},
        "Deep SVDD that pushes the minority's training rows away from the centre (Ruff 2020)",
    ),
    "deep_sad_pixels": MemberEntry(
        "semisupervised",
        "oneclass.settings:DeepSADPixelsSettings",
        "deep_sad_pixels",
        {},
        "the same from pixels, pre-trained as an autoencoder",
        seconds_per_row=0.08,
    ),
    "mahalanobis": MemberEntry(
        "oneclass",
        "oneclass.settings:MahalanobisSettings",
        "mahalanobis",
        {},
        "Mahalanobis distance of pooled features, covariance shrunk (Rippel 2021)",
        seconds_per_row=0.002,
    ),
    "knn": MemberEntry(
        "oneclass",
        "oneclass.settings:KnnSettings",
        "knn",
        {},
        "mean distance of pooled features to the nearest majority rows (DN2, Bergman 2020)",
        seconds_per_row=0.001,
    ),
    "mean_shifted": MemberEntry(
        "oneclass",
        "oneclass.settings:MeanShiftedSettings",
        "mean_shifted",
        {},
        "nearest majority rows once the backbone's last stage is adapted by contrast (Reiss 2021)",
        seconds_per_row=0.3,
    ),
    "cnn": _cnn("plain cross-entropy; with calibration and a tuned threshold the calibrated baseline"),
    "cnn_weighted": _cnn("cross-entropy with inverse-frequency class weights", loss="weighted_cross_entropy"),
    "cnn_effective": _cnn(
        "cross-entropy weighted by the effective number of samples (Cui 2019)",
        loss="weighted_cross_entropy",
        weights="effective",
    ),
    "cnn_smoothed": _cnn("cross-entropy with label smoothing 0.1 (Szegedy 2016)", smoothing=0.1),
    "cnn_focal": _cnn("focal loss, which turns towards the hard rows (Lin 2017)", loss="focal"),
    "cnn_asymmetric_focal": _cnn(
        "focal loss on the majority alone (after Ridnik 2021)", loss="asymmetric_focal"
    ),
    "cnn_ldam": _cnn(
        "a larger margin for the rarer class, class weights late (LDAM-DRW, Cao 2019)", loss="ldam"
    ),
    "cnn_logit_adjusted": _cnn(
        "logits shifted by the class shares: balanced softmax (Menon 2021, Ren 2020)",
        loss="logit_adjustment",
    ),
    "cnn_vs": _cnn("logits shifted and scaled by the class shares (VS-loss, Kini 2021)", loss="vs"),
    "cnn_soft_f1": _cnn("one minus differentiable macro F1", loss="soft_f1"),
    "cnn_auc": _cnn("AUC by squared margins of class means (Yuan 2021); ranks only", loss="auc_margin"),
    "cnn_partial_auc": _cnn(
        "one-way partial AUC, the majority's nearest rows count most (Zhu 2022); ranks only",
        loss="partial_auc",
        temperature=0.1,
    ),
    "cnn_undersampled": _cnn(
        "majority rows thrown away once, down to the minority's number", sampler={"kind": "undersample"}
    ),
    "cnn_undersampled_anew": _cnn(
        "a fresh choice of majority rows each epoch; as heads, their mean (EasyEnsemble, Liu 2009)",
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
        "batches that hold every class equally often", sampler={"kind": "class_balanced"}
    ),
    "cnn_square_root": _cnn(
        "classes drawn by the square roots of their sizes (Mahajan 2018)", sampler={"kind": "square_root"}
    ),
    "cnn_progressive": _cnn(
        "from the classes' own shares to equal ones while training goes on (Kang 2020)",
        sampler={"kind": "progressive"},
    ),
    "cnn_smote": _cnn(
        "features made up between minority rows and their neighbours (SMOTE, Chawla 2002)",
        synthetic={"space": "features", "sampler": "smote"},
    ),
    "cnn_adasyn": _cnn(
        "features made up where minority rows have others near (ADASYN, He 2008)",
        synthetic={"space": "features", "sampler": "adasyn"},
    ),
    "cnn_deep_smote": _cnn(
        "a whole CNN on minority images that an autoencoder makes up (after DeepSMOTE, Dablain 2021)",
        tune="full",
        synthetic={"space": "images"},
    ),
    "cnn_tuned": _cnn("a whole CNN fine-tuned with plain cross-entropy", tune="full"),
    "cnn_augmented": _cnn(
        "a whole CNN on images rotated 20 degrees, zoomed 0.15, shifted 0.2 and sheared 0.15 at random",
        tune="full",
        augment={"rotation": 20.0, "zoom": 0.15, "shift": 0.2, "shear": 0.15},
    ),
    "cnn_cutmix": _cnn(
        "a whole CNN on images with rectangles of others pasted in (Yun 2019)",
        tune="full",
        augment={"mix": "cutmix"},
    ),
    "cnn_mixup_drw": _cnn(
        "a whole CNN on blended pairs, class weights late (Zhang 2018, Cao 2019)",
        tune="full",
        augment={"mix": "mixup"},
        loss="weighted_cross_entropy",
        deferred_until=0.8,
    ),
    "cnn_augmix": _cnn(
        "a whole CNN on images with chains of operations mixed in (Hendrycks 2020)",
        tune="full",
        augment={"augmix": True},
    ),
    "cnn_erasing": _cnn(
        "a whole CNN on images with random rectangles blanked (Zhong 2020)",
        tune="full",
        augment={"erasing": 0.5},
    ),
    "cnn_sam": _cnn(
        "a whole CNN by sharpness-aware minimisation (Foret 2021), two passes a step",
        tune="full",
        optimiser={"sam": 0.05},
    ),
    "cnn_simclr": _cnn(
        "a whole CNN fine-tuned after SimCLR on the training images without labels (Chen 2020)",
        tune="full",
        simclr={},
    ),
    "cnn_simclr_linear": _cnn(
        "a linear head on a CNN that SimCLR alone has trained: linear evaluation (Chen 2020)",
        tune="linear",
        simclr={},
    ),
    "cnn_crt": _cnn(
        "a whole CNN whose classifier is then fitted anew with balanced classes (cRT, Kang 2020)",
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
    """Look a member type up: a key of :data:`MEMBERS`, or ``anomalib:NAME``.

    Raises:
        UsageError: no such type; names the nearest.
        ModelError: one of anomalib's models where anomalib is not installed.
    """
    if member_type.startswith(ANOMALIB_PREFIX):
        return _anomalib_entry(member_type.removeprefix(ANOMALIB_PREFIX))
    if member_type not in MEMBERS:
        raise UsageError(
            f"member type '{member_type}': not known. Known are {', '.join(MEMBERS)}, "
            f"and {ANOMALIB_PREFIX}NAME.{nearest_match(member_type, MEMBERS)}"
        )
    return MEMBERS[member_type]


def _anomalib_entry(name: str) -> MemberEntry:
    """Any image model of anomalib; see ``docs/results/anomalib-models.md`` for what each of them can do."""
    facts = facts_of(name)
    return MemberEntry(
        "oneclass",
        "oneclass.from_anomalib.settings:AnomalibSettings",
        "anomalib_model",
        {"model": facts.name},
        f"anomalib's {facts.class_name}, trained on majority images by anomalib itself",
        seconds_per_row=0.3,
    )


def settings_class(member_type: str) -> Any:
    """The settings model of a member type; imports no torch."""
    module, name = entry_of(member_type).settings.split(":")
    return getattr(importlib.import_module(module), name)


def build_member(member_type: str, settings: Any, backbone: BackboneSettings) -> Member:
    """An unfitted member.

    Args:
        member_type: a key of :data:`MEMBERS`.
        settings: an instance of its settings model.
        backbone: the backbone whose features it will read.
    """
    from workflow.settings import factories

    member: Member = getattr(factories, entry_of(member_type).factory)(settings, backbone)
    return member
