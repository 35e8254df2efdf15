"""Models of anomalib as members: the same numbers as anomalib's own, quiet, and without a hub."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch

from contracts.errors import ExitCode, MemberCollapsedError, ModelError, UsageError
from contracts.member import FitContext
from export.graph import GraphMember
from export.member_check import reason_not_to_export
from features.backbones import NoBackbone
from features.settings import BackboneSettings
from features.tensors import BackboneFeatures
from oneclass.from_anomalib.build import build_model, weights_from
from oneclass.from_anomalib.member import AnomalibMember
from oneclass.from_anomalib.module import Preparation
from oneclass.from_anomalib.settings import AnomalibSettings
from oneclass.from_anomalib.state import network_state, put_state
from tests.rows import synthetic_rows
from workflow.settings.registry import build_member

TINY: dict[str, Any] = {"backbone": "test_resnet", "layers": ["layer1", "layer2"]}
ROWS = synthetic_rows((20, 6), image_size=32)


def fitted(model: str, **given: Any) -> AnomalibMember:
    settings = AnomalibSettings(model=model, **{"weights": "random", "max_epochs": 1, **given})
    member = build_member(f"anomalib:{model}", settings, BackboneSettings())
    assert isinstance(member, AnomalibMember)
    return member.fit(ROWS, FitContext(seed=3))


def pixels(n: int = 5) -> torch.Tensor:
    return torch.from_numpy(ROWS.images(np.arange(n))).permute(0, 3, 1, 2).float().contiguous()


@pytest.mark.parametrize("num_neighbors", [1, 9])
def test_patchcore_scores_as_anomalibs_own(num_neighbors):
    member = fitted("patchcore", arguments={**TINY, "num_neighbors": num_neighbors})
    module: Any = member.raw_module()
    with torch.inference_mode():
        theirs = module.network(module.preparation(pixels())).pred_score
        ours, score_map = module(BackboneFeatures(pixels(), torch.empty(0), torch.empty(0)))
    np.testing.assert_allclose(ours[:, 0], theirs, atol=1e-4)
    assert score_map.shape == (5, 8, 8)


@pytest.mark.parametrize("model", ["patchcore", "dfm", pytest.param("padim", marks=pytest.mark.slow)])
def test_exports_with_any_batch_size(model):
    of_model = {"padim": {"n_features": 10}, "dfm": {"layer": "layer2", "pooling_kernel_size": 2}}
    arguments = {**TINY, **of_model.get(model, {})}
    if model == "dfm":
        del arguments["layers"]
    member = fitted(model, arguments=arguments)
    assert reason_not_to_export(NoBackbone(), GraphMember(model, "", member.to_module()), 32) == ""


def test_a_loop_over_images_is_said_to_be_one():
    """Anomalib's density estimate loops over the images of a batch, and tracing writes that loop out."""
    member = fitted("dfkde", arguments={**TINY, "layers": ["layer2"], "n_pca_components": 4})
    reason = reason_not_to_export(NoBackbone(), GraphMember("dfkde", "", member.to_module()), 32)
    assert "batch size" in reason or "tracing" in reason


def test_network_sees_what_the_graph_gives_it():
    """Training and scoring share one preparation, antialiased where it resizes."""
    from torchvision.transforms.v2 import functional

    preparation = Preparation(16, 32, ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    small = functional.resize(pixels(), [16, 16], antialias=True) / 255.0
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    torch.testing.assert_close(preparation(pixels()), (small - mean) / std, rtol=1e-4, atol=1e-4)


def test_banks_are_chosen_by_our_greedy_while_training_lasts():
    from anomalib.models.components import KCenterGreedy

    from oneclass.from_anomalib.training import exact_coreset
    from oneclass.patchcore.coreset import k_center_greedy

    points = torch.rand(300, 5, generator=torch.Generator().manual_seed(0))
    theirs = KCenterGreedy.select_coreset_idxs
    with exact_coreset(seed=4):
        chosen = KCenterGreedy(points, sampling_ratio=0.1).select_coreset_idxs()
    assert chosen == k_center_greedy(points, 30, seed=4).tolist()
    assert KCenterGreedy.select_coreset_idxs is theirs


def test_normalisation_is_the_models_own_or_the_packaged_backbones():
    tiny = AnomalibSettings(model="patchcore", weights="random", arguments=TINY)
    assert build_model(tiny, 32, "random", 0).normalisation[0] == (0.485, 0.456, 0.406)
    packaged = AnomalibSettings(model="patchcore", weights="packaged")
    built = build_model(packaged, 32, "packaged", 0)
    assert built.normalisation == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    stem = built.lightning.model.feature_extractor.feature_extractor.conv_stem.weight
    from features.weights import packaged_state

    assert torch.equal(stem, packaged_state("tf_efficientnet_lite0")["conv_stem.weight"])


def test_nothing_is_written_or_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fitted("patchcore", arguments=TINY)
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == ""


def test_a_hub_out_of_reach_is_a_model_error(monkeypatch):
    create = timm.create_model

    def no_network(name: str, pretrained: bool = False, **named: Any) -> torch.nn.Module:
        if pretrained:
            raise OSError("no route to host")
        return create(name, pretrained=False, **named)

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(
        ModelError, match=r"the hub did not deliver .*no route to host.*weights: packaged"
    ) as caught:
        build_model(AnomalibSettings(model="stfpm"), 32, "hub", 0)
    assert caught.value.exit_code == ExitCode.MODEL


def test_only_what_is_wanted_pre_trained_gets_packaged_weights():
    with weights_from("packaged", "here"):
        plain = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True)
        trained = timm.create_model("tf_efficientnet_lite0", pretrained=True, features_only=True)
        with pytest.raises(UsageError, match="packages have weights only of"):
            timm.create_model("resnet18", pretrained=True)
    assert not torch.equal(plain.conv_stem.weight, trained.conv_stem.weight)
    assert timm.create_model.__module__.startswith("timm")


def test_torchvisions_weights_come_from_no_hub_either():
    import torchvision

    weights = torchvision.models.ResNet18_Weights.DEFAULT
    with weights_from("random", "here"):
        state = weights.get_state_dict(progress=False)
    torchvision.models.resnet18(weights=None).load_state_dict(state)


def test_arguments_that_the_model_refuses_are_a_usage_error():
    with pytest.raises(UsageError, match=r"anomalib:padim: anomalib refuses these arguments .*n_features"):
        build_model(AnomalibSettings(model="padim", weights="random", arguments=TINY), 32, "random", 0)


def test_equal_images_are_a_collapse():
    from dataclasses import replace

    same = replace(ROWS.base, images=np.full_like(ROWS.base.images, 90))
    rows = type(ROWS)(same)
    settings = AnomalibSettings(model="patchcore", weights="random", arguments=TINY)
    with pytest.raises(MemberCollapsedError, match="anomalib:patchcore: collapsed"):
        AnomalibMember(settings).fit(rows, FitContext(seed=0))


def test_state_holds_what_lies_beside_the_state_dict():
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bank = torch.nn.Buffer(torch.empty(0))
            self.part = torch.nn.Linear(2, 2)
            self.centre = torch.zeros(2)
            self.count = 0

    one, other = Odd(), Odd()
    one.bank, one.centre, one.count = torch.ones(3, 2), torch.ones(2), 7
    put_state(other, *network_state(one), "here")
    assert other.count == 7
    assert torch.equal(other.bank, one.bank)
    assert torch.equal(other.centre, one.centre)
    assert torch.equal(other.part.weight, one.part.weight)
    with pytest.raises(ModelError, match=r"here: its saved state holds gone.weight"):
        put_state(other, {"gone.weight": np.zeros(2)}, {}, "here")


def test_images_of_another_size_than_the_working_size():
    member = fitted("patchcore", arguments=TINY, image_size=48)
    scores = member.score(ROWS)
    restored = AnomalibMember(member.settings).restore(*member.state())
    assert np.array_equal(restored.score(ROWS), scores)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "given"),
    [
        ("stfpm", {"weights": "packaged"}),
        ("dfm", {"weights": "packaged"}),
        ("supersimplenet", {"weights": "packaged"}),
        ("reverse_distillation", {"arguments": {"backbone": "resnet18"}}),
        ("ganomaly", {"image_size": 64}),
        ("fastflow", {"image_size": 64, "arguments": {"backbone": "resnet18", "flow_steps": 2}}),
    ],
)
def test_others_train_score_and_save(model, given):
    member = fitted(model, **given)
    scores = member.score(ROWS)
    assert np.isfinite(scores).all()
    restored = AnomalibMember(member.settings).restore(*member.state())
    np.testing.assert_allclose(restored.score(ROWS), scores, rtol=1e-4, atol=1e-6)


def test_what_a_model_would_fetch_into_other_folders_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = AnomalibSettings(model="draem", weights="random")
    with pytest.raises(
        ModelError, match=r"anomalib:draem: anomalib wants to download .* Put it there yourself"
    ):
        build_model(settings, 64, "random", 0)
    assert list(tmp_path.iterdir()) == []
